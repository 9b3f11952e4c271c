package cpix

import (
	"slices"
	"strings"

	"spekeasy/internal/xmltree"
)

// space is a namespace that this package knows.
type space uint8

const (
	foreign space = iota
	cpixSpace
	pskcSpace
	spekeSpace
	dsSpace
	encSpace
)

// reader walks a tree; spaces translates namespace indexes of the tree.
type reader struct {
	doc    *Document
	spaces [xmltree.MaxSpaces]space
}

// Parse reads a CPIX document. The error is a [*xmltree.SyntaxError] for text
// that is not acceptable XML, with line and offset and without a quotation,
// or [ErrRoot].
func Parse(data []byte) (*Document, error) {
	d := new(Document)
	if err := d.Parse(data); err != nil {
		return nil, err
	}
	return d, nil
}

// Parse reads a document into the memory of the one before, which it resets.
// It keeps a copy of data. The error is as that of the function Parse; then d
// is a document without content.
func (d *Document) Parse(data []byte) error {
	d.Reset()
	if err := d.tree.Parse(string(data)); err != nil {
		return err
	}
	d.Edit(0)
	r := reader{doc: d}
	for i, name := range d.tree.Spaces() {
		switch name {
		case Namespace:
			r.spaces[i] = cpixSpace
		case NamespacePSKC:
			r.spaces[i] = pskcSpace
		case NamespaceSPEKE:
			r.spaces[i] = spekeSpace
		case NamespaceDS:
			r.spaces[i] = dsSpace
		case NamespaceXENC:
			r.spaces[i] = encSpace
		}
	}
	root := d.tree.Root()
	if !r.is(root, cpixSpace, "CPIX") {
		d.Reset()
		return ErrRoot
	}
	r.root(root)
	return nil
}

func (r *reader) space(e *xmltree.Element) space { return r.spaces[e.SpaceIndex()] }

func (r *reader) is(e *xmltree.Element, s space, local string) bool {
	return r.space(e) == s && e.Local() == local
}

// child returns the first child of that name, or nil; it accepts a nil e.
func (r *reader) child(e *xmltree.Element, s space, local string) *xmltree.Element {
	if e == nil {
		return nil
	}
	for c := e.FirstChild(); c != nil; c = c.Next() {
		if r.is(c, s, local) {
			return c
		}
	}
	return nil
}

// attr returns the trimmed value of an attribute, "" when it is absent.
func attr(e *xmltree.Element, name string) string { return value(e.Attr(name)) }

func value(a *xmltree.Attr) string {
	if a == nil {
		return ""
	}
	return trim(a.Value())
}

// trim is strings.TrimSpace, in short for the many texts that need none.
func trim(s string) string {
	if s == "" || isGraphic(s[0]) && isGraphic(s[len(s)-1]) {
		return s
	}
	return strings.TrimSpace(s)
}

func isGraphic(c byte) bool { return c > ' ' && c < 0x7f }

func text(e *xmltree.Element) string {
	if e == nil {
		return ""
	}
	return strings.TrimSpace(e.Text())
}

func (r *reader) root(root *xmltree.Element) {
	d := r.doc
	d.ID, d.ContentID, d.Version = attr(root, "id"), attr(root, "contentId"), attr(root, "version")
	for list := root.FirstChild(); list != nil; list = list.Next() {
		if r.is(list, dsSpace, "Signature") {
			d.signatures = append(d.signatures, list)
		}
		if r.space(list) != cpixSpace {
			continue
		}
		switch list.Local() {
		case "DeliveryDataList":
			d.Lists.DeliveryData++
			r.each(list, "DeliveryData", func(e *xmltree.Element) { d.DeliveryData = append(d.DeliveryData, r.deliveryData(e)) })
		case "ContentKeyList":
			d.Lists.ContentKey++
			keys, _ := r.count(list)
			d.ContentKeys = slices.Grow(d.ContentKeys, keys)
			r.each(list, "ContentKey", func(e *xmltree.Element) { d.ContentKeys = append(d.ContentKeys, r.contentKey(e)) })
		case "DRMSystemList":
			d.Lists.DRMSystem++
			r.drmSystems(list)
		case "ContentKeyPeriodList":
			d.Lists.Period++
			r.each(list, "ContentKeyPeriod", func(e *xmltree.Element) { d.Periods = append(d.Periods, period(e)) })
		case "ContentKeyUsageRuleList":
			d.Lists.UsageRule++
			r.usageRules(list)
		}
	}
}

func (r *reader) each(list *xmltree.Element, local string, f func(*xmltree.Element)) {
	for e := list.FirstChild(); e != nil; e = e.Next() {
		if r.is(e, cpixSpace, local) {
			f(e)
		}
	}
}

// count returns how many elements a list has, and how many those have in all.
func (r *reader) count(list *xmltree.Element) (entries, within int) {
	for e := list.FirstChild(); e != nil; e = e.Next() {
		entries++
		for c := e.FirstChild(); c != nil; c = c.Next() {
			within++
		}
	}
	return entries, within
}

func (r *reader) contentKey(e *xmltree.Element) ContentKey {
	k := ContentKey{el: e, kid: e.Attr("kid"), Scheme: attr(e, "commonEncryptionScheme"), ExplicitIV: attr(e, "explicitIV")}
	k.KID = value(k.kid)
	for c := e.FirstChild(); c != nil; c = c.Next() {
		switch {
		case r.is(c, cpixSpace, "Data"):
			if k.Values++; k.Values == 1 {
				k.data = c
			}
			for s := c.FirstChild(); s != nil && k.Secret.IsZero(); s = s.Next() {
				if r.is(s, pskcSpace, "Secret") {
					k.Secret = r.secret(s)
				}
			}
		case r.is(c, cpixSpace, "HDCPData") && k.hdcp == nil:
			k.hdcp, k.HDCPLevel = c, attr(c, "HLSHDCPLevel")
		}
	}
	return k
}

// secret reads the children of a pskc:Secret or of what stands in its place;
// e may be nil.
func (r *reader) secret(e *xmltree.Element) Secret {
	if e == nil {
		return Secret{}
	}
	s := Secret{
		PlainValue: text(r.child(e, pskcSpace, "PlainValue")),
		ValueMAC:   text(r.child(e, pskcSpace, "ValueMAC")),
	}
	s.Algorithm, s.CipherValue = r.encrypted(r.child(e, pskcSpace, "EncryptedValue"))
	return s
}

// encrypted reads an element of the type enc:EncryptedDataType; e may be nil.
func (r *reader) encrypted(e *xmltree.Element) (algorithm, cipherValue string) {
	if m := r.child(e, encSpace, "EncryptionMethod"); m != nil {
		algorithm = attr(m, "Algorithm")
	}
	return algorithm, text(r.child(r.child(e, encSpace, "CipherData"), encSpace, "CipherValue"))
}

func (r *reader) deliveryData(e *xmltree.Element) DeliveryData {
	d := DeliveryData{ID: attr(e, "id"), key: r.child(e, cpixSpace, "DeliveryKey")}
	if d.key != nil {
		for x := d.key.FirstChild(); x != nil; x = x.Next() {
			if !r.is(x, dsSpace, "X509Data") {
				continue
			}
			for c := x.FirstChild(); c != nil; c = c.Next() {
				if r.is(c, dsSpace, "X509Certificate") {
					d.Certificates = append(d.Certificates, text(c))
				}
			}
		}
	}
	if k := r.child(e, cpixSpace, "DocumentKey"); k != nil {
		s := r.secret(r.child(r.child(k, cpixSpace, "Data"), pskcSpace, "Secret"))
		d.DocumentKey, d.DocumentAlgo = &s, attr(k, "Algorithm")
	}
	if m := r.child(e, cpixSpace, "MACMethod"); m != nil {
		d.MACKey, d.MACAlgo = r.macKey(m), attr(m, "Algorithm")
	}
	return d
}

// macKey reads the MAC key in any of its three shapes (D-15):
// pskc:MACKey as in the PSKC schema, cpix:Key with a pskc:EncryptedValue as
// AWS writes it, cpix:Key that is the encrypted data itself.
func (r *reader) macKey(m *xmltree.Element) *Secret {
	var s Secret
	if k := r.child(m, pskcSpace, "MACKey"); k != nil {
		s.Algorithm, s.CipherValue = r.encrypted(k)
		return &s
	}
	k := r.child(m, cpixSpace, "Key")
	s = r.secret(k)
	if s.CipherValue == "" {
		s.Algorithm, s.CipherValue = r.encrypted(k)
	}
	return &s
}

func (r *reader) drmSystems(list *xmltree.Element) {
	d := r.doc
	systems, signals := r.count(list)
	d.DRMSystems = slices.Grow(d.DRMSystems, systems)
	d.signals = slices.Grow(d.signals, signals)
	r.each(list, "DRMSystem", func(e *xmltree.Element) {
		s := DRMSystem{el: e, kid: e.Attr("kid"), SystemID: attr(e, "systemId"), AllowedCPC: attr(e, "HLSAllowedCPC")}
		s.KID = value(s.kid)
		from := len(d.signals)
		for c := e.FirstChild(); c != nil; c = c.Next() {
			if sig, ok := r.signal(c); ok {
				d.signals = append(d.signals, sig)
			}
		}
		s.Signals = slices.Clip(d.signals[from:])
		d.DRMSystems = append(d.DRMSystems, s)
	})
}

func (r *reader) signal(e *xmltree.Element) (Signal, bool) {
	s := Signal{el: e}
	switch r.space(e) {
	case cpixSpace:
		switch e.Local() {
		case "PSSH":
			s.Kind = PSSH
		case "ContentProtectionData":
			s.Kind, s.Robustness = ContentProtectionData, attr(e, "robustness")
		case "HLSSignalingData":
			s.Kind, s.Playlist = HLSSignalingData, attr(e, "playlist")
		case "SmoothStreamingProtectionHeaderData":
			s.Kind = SmoothProtectionHeader
		case "URIExtXKey":
			s.Kind = URIExtXKey
		default:
			return s, false
		}
		return s, true
	case spekeSpace:
		switch e.Local() {
		case "KeyFormat":
			s.Kind = KeyFormat
		case "KeyFormatVersions":
			s.Kind = KeyFormatVersions
		case "ProtectionHeader":
			s.Kind = ProtectionHeader
		default:
			return s, false
		}
		return s, true
	}
	return s, false
}

func period(e *xmltree.Element) Period {
	return Period{
		ID: attr(e, "id"), Index: attr(e, "index"), Start: attr(e, "start"), End: attr(e, "end"),
		StartOffset: attr(e, "startOffset"), EndOffset: attr(e, "endOffset"),
	}
}

func (r *reader) usageRules(list *xmltree.Element) {
	d := r.doc
	rules, filters := r.count(list)
	d.UsageRules = slices.Grow(d.UsageRules, rules)
	d.filters = slices.Grow(d.filters, filters)
	r.each(list, "ContentKeyUsageRule", func(e *xmltree.Element) {
		u := UsageRule{kid: e.Attr("kid"), IntendedTrackType: attr(e, "intendedTrackType")}
		u.KID = value(u.kid)
		from := len(d.filters)
		for c := e.FirstChild(); c != nil; c = c.Next() {
			if r.space(c) == cpixSpace {
				d.filters = append(d.filters, Filter{Kind: filterKind(c.Local()), el: c})
			}
		}
		u.Filters = slices.Clip(d.filters[from:])
		d.UsageRules = append(d.UsageRules, u)
	})
}
