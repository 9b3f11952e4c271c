package encryptor

import (
	"encoding/base64"
	"errors"
	"mime"
	"slices"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/internal/xmltree"
)

// headers holds SX-HTTP-05, S1-HTTP-10, S2-HTTP-11 and -12.
func (c *checker) headers() {
	media, params, err := mime.ParseMediaType(c.header.Get("Content-Type"))
	if charset := params["charset"]; err != nil || media != contentType || charset != "" && !strings.EqualFold(charset, "utf-8") {
		c.add("SX-HTTP-05", "Content-Type is %s, want %s in UTF-8", quote(c.header.Get("Content-Type")), contentType)
	}
	if !c.v2 {
		if c.UserAgent == "" {
			c.advise("S1-HTTP-10", "no %s", headerUserAgentV1)
		}
		return
	}
	if c.UserAgent == "" {
		c.add("S2-HTTP-11", "no %s", headerUserAgent)
	}
	if got := c.header.Get(headerVersion); got != string(c.request.Version) {
		c.add("S2-HTTP-12", "%s is %s, want %q", headerVersion, quote(got), c.request.Version)
	}
}

// root holds what the document as a whole must have and must not have.
func (c *checker) root() {
	l := c.doc.Lists
	for _, list := range [...]struct {
		name      string
		got, want int
	}{
		{"ContentKeyList", l.ContentKey, c.request.doc.Lists.ContentKey},
		{"DRMSystemList", l.DRMSystem, c.request.doc.Lists.DRMSystem},
		{"ContentKeyUsageRuleList", l.UsageRule, c.request.doc.Lists.UsageRule},
		{"ContentKeyPeriodList", l.Period, c.request.doc.Lists.Period},
		{"DeliveryDataList", l.DeliveryData, c.request.doc.Lists.DeliveryData},
	} {
		if list.got != list.want {
			c.add(c.by("S1-ECHO-11", "S2-PAY-07"), "%d %s, want %d", list.got, list.name, list.want)
		}
	}
	const byteOrderMark = "\ufeff"
	if strings.HasPrefix(string(c.body), byteOrderMark) && !strings.HasPrefix(string(c.request.Body), byteOrderMark) {
		c.add("SX-HTTP-06", "the document begins with a byte-order mark")
	}
	root := c.tree.Root()
	if child(root, cpix.NamespaceDS, "Signature") != nil {
		c.add("SX-CKE-13", "the document is signed")
	}
	if !c.v2 {
		return
	}
	if root.Attr("id") != nil {
		c.add("S2-PAY-03", "CPIX@id is present")
	}
	if p, ok := root.PrefixFor(cpix.NamespacePSKC); !ok || p == "" {
		c.add("S2-PAY-04", "no prefix for %s is declared on the root", cpix.NamespacePSKC)
	}
	if slices.Contains(c.tree.Spaces(), cpix.NamespaceSPEKE) {
		c.add("S2-PAY-06", "the namespace of SPEKE v1 is declared")
	}
	walk(root, func(e *xmltree.Element) {
		switch {
		case e.Local() == "URIExtXKey" && e.Space() == cpix.Namespace:
			c.add("S2-PAY-06", "URIExtXKey is present")
		case e.Space() == cpix.NamespacePSKC && e.Prefix() == "":
			c.add("S2-PAY-21", "%s is written without a prefix", e.Local())
		}
	})
}

// walk calls f for e and all elements inside it.
func walk(e *xmltree.Element, f func(*xmltree.Element)) {
	f(e)
	for x := range children(e) {
		walk(x, f)
	}
}

// contentKeys holds the rules for key IDs, IVs and values.
func (c *checker) contentKeys() {
	kids := make(map[contentkey.KID]bool, len(c.Keys))
	values := make(map[contentkey.Value]string, len(c.Keys))
	elements := items(c.tree.Root(), "ContentKeyList", "ContentKey")
	for i := range c.Keys {
		k, e := &c.Keys[i], &c.doc.ContentKeys[i]
		if _, err := contentkey.ParseKID(e.KID); err != nil {
			c.add(c.by("S1-ECHO-11", "S2-PAY-11"), "ContentKey %d: kid %s is not a UUID", i+1, quote(e.KID))
		} else if kids[k.KID] {
			c.add("SX-KID-05", "two content keys have key ID %s", k.KID)
		}
		kids[k.KID] = true
		if e.ExplicitIV != "" {
			if _, err := contentkey.ParseIV(e.ExplicitIV); err != nil {
				c.add(c.by("S1-PAY-06", "S2-PAY-13"), "key ID %s: explicitIV is %v", k.KID, err)
			}
		}
		if i < len(elements) {
			c.oneSecret(k, elements[i])
		}
		c.value(k, &e.Secret, c.valueErrs[i])
		if !k.HasValue {
			continue
		}
		if other, ok := values[k.Value]; ok {
			c.add("S2-PAY-20", "key IDs %s and %s have the same content key", other, k.KID)
		}
		values[k.Value] = k.KID.String()
	}
	c.ivs()
}

// oneSecret holds S2-PAY-14.
func (c *checker) oneSecret(k *Key, e *xmltree.Element) {
	data, secrets := 0, 0
	for d := range children(e) {
		if d.Local() != "Data" || d.Space() != cpix.Namespace {
			continue
		}
		data++
		for s := range children(d) {
			if s.Local() == "Secret" && s.Space() == cpix.NamespacePSKC {
				secrets++
			}
		}
	}
	if data != 1 || secrets != 1 {
		c.add(c.by("S1-PAY-01", "S2-PAY-14"), "key ID %s: %d Data with %d Secret, want one of each", k.KID, data, secrets)
	}
}

// value holds S2-PAY-15, -16, -19 and what can be said of an encrypted value
// without its key.
func (c *checker) value(k *Key, s *cpix.Secret, err error) {
	switch {
	case s.PlainValue != "" && s.CipherValue != "":
		c.add("S2-PAY-15", "key ID %s: a plain and an encrypted value", k.KID)
	case s.IsZero():
		c.add("S2-PAY-15", "key ID %s: no content key", k.KID)
	case s.CipherValue != "" && !c.request.encrypted():
		c.add("SX-CKE-01", "key ID %s: an encrypted value where a plain one was asked for", k.KID)
	case s.CipherValue != "":
		c.sealed(k, s, err)
	case err != nil:
		c.add("S2-PAY-19", "key ID %s: %v", k.KID, err)
	}
}

func (c *checker) sealed(k *Key, s *cpix.Secret, err error) {
	const cipherSize, macSize = 48, 64
	if n := decodedSize(s.CipherValue); n != cipherSize {
		c.add("SX-CKE-07", "key ID %s: CipherValue is not the base64 of %d bytes", k.KID, cipherSize)
		return
	}
	if s.Algorithm != cpix.AlgorithmAES256CBC {
		c.add("SX-CKE-07", "key ID %s: EncryptionMethod is %s", k.KID, quote(s.Algorithm))
	}
	if n := decodedSize(s.ValueMAC); n != macSize {
		c.add("SX-CKE-08", "key ID %s: ValueMAC is not the base64 of %d bytes", k.KID, macSize)
		return
	}
	if err != nil && !errors.Is(err, errNoKey) {
		c.add("SX-CKE-08", "key ID %s: %v", k.KID, err)
	}
}

// decodedSize returns the number of bytes whose base64 a text is, -1 for none.
func decodedSize(text string) int {
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return -1
	}
	return len(b)
}

// ivs holds which answers need an explicitIV that the request had not.
func (c *checker) ivs() {
	for i, j := range c.keys {
		if j < 0 || c.request.Keys[i].ExplicitIV != "" {
			continue
		}
		k := &c.Keys[j]
		fairPlay := slices.ContainsFunc(c.request.Keys[i].Systems, func(s Signaling) bool { return s.System.String() == fairPlayID })
		switch {
		case k.ExplicitIV == "" && fairPlay && c.v2:
			c.add("S2-FP-06", "key ID %s: no explicitIV for FairPlay", k.KID)
		case k.ExplicitIV == "" && fairPlay:
			c.advise("S1-PAY-07", "key ID %s: no explicitIV for FairPlay", k.KID)
		case k.ExplicitIV != "" && c.v2 && cencName(k.Scheme) == "cenc":
			c.advise("S2-PAY-13", "key ID %s: an explicitIV for cenc that was not asked for", k.KID)
		}
	}
}

// encryption holds SX-CKE-03, -05, -06 and -10.
func (c *checker) encryption() {
	if !c.request.encrypted() {
		return
	}
	plain := 0
	walk(c.tree.Root(), func(e *xmltree.Element) {
		if e.Local() == "PlainValue" && e.Space() == cpix.NamespacePSKC {
			plain++
		}
	})
	if plain > 0 {
		c.add("SX-CKE-10", "%d PlainValue elements although encryption was asked for", plain)
	}
	whole := len(c.doc.DeliveryData) > 0
	for i := range c.doc.DeliveryData {
		d := &c.doc.DeliveryData[i]
		switch {
		case d.DocumentKey == nil || d.DocumentKey.CipherValue == "":
			c.add("SX-CKE-03", "DeliveryData %d has no encrypted DocumentKey", i+1)
			whole = false
		case d.DocumentAlgo != cpix.AlgorithmAES256CBC:
			c.add("SX-CKE-06", "DeliveryData %d: DocumentKey@Algorithm is %s", i+1, quote(d.DocumentAlgo))
		}
		switch {
		case d.MACKey == nil || d.MACKey.CipherValue == "":
			c.add("SX-CKE-03", "DeliveryData %d has no MACMethod with an encrypted key", i+1)
			whole = false
		case d.MACAlgo != cpix.AlgorithmHMACSHA512:
			c.add("SX-CKE-06", "DeliveryData %d: MACMethod@Algorithm is %s", i+1, quote(d.MACAlgo))
			whole = false
		}
		for _, s := range [...]*cpix.Secret{d.DocumentKey, d.MACKey} {
			if s != nil && s.CipherValue != "" && s.Algorithm != cpix.AlgorithmRSAOAEP {
				c.add("SX-CKE-05", "DeliveryData %d: EncryptionMethod is %s", i+1, quote(s.Algorithm))
				whole = false
			}
		}
	}
	if whole && c.openErr != nil && !errors.Is(c.openErr, errNoKey) {
		c.add("SX-CKE-05", "the document key does not open: %v", c.openErr)
	}
}
