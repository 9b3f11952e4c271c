package keylist

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/internal/keystore"
	"spekeasy/internal/xmltree"
)

// MaxCPIX bounds a CPIX document, which is held in memory as a whole. It is
// room for some 200,000 content keys.
const MaxCPIX = 128 << 20

// Recipient opens content keys that are encrypted to a certificate.
type Recipient struct {
	Key  *rsa.PrivateKey
	Cert *x509.Certificate // nil when the key alone tells which recipient it is
}

// cpixReader reads the content keys of a document.
type cpixReader struct {
	doc    *cpix.Document
	opener *cpix.Opener // nil when the keys are in clear
	uses   map[contentkey.KID]use
	next   int
}

type use struct {
	track  string
	period contentkey.Period
}

// NewCPIXReader reads a CPIX document. The recipient, which may be nil, is
// needed when its content keys are encrypted. Of several usage rules for a
// content key the first one counts.
func NewCPIXReader(r io.Reader, to *Recipient) (Reader, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxCPIX+1))
	if err != nil {
		return nil, fmt.Errorf("reading CPIX: %w", err)
	}
	if len(text) > MaxCPIX {
		return nil, fmt.Errorf("CPIX: more than %d MiB; split the document, or use CSV or JSON lines", MaxCPIX>>20)
	}
	doc, err := cpix.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("CPIX: %w", err)
	}
	c := &cpixReader{doc: doc, uses: uses(doc)}
	if len(doc.DeliveryData) == 0 {
		return c, nil
	}
	if to == nil {
		return nil, errors.New("CPIX: the content keys are encrypted; the recipient's private key is needed")
	}
	if c.opener, err = doc.Opener(to.Key, to.Cert); err != nil {
		return nil, fmt.Errorf("CPIX: %w", err)
	}
	return c, nil
}

// uses returns what the first usage rule of each key ID says.
func uses(doc *cpix.Document) map[contentkey.KID]use {
	periods := make(map[string]contentkey.Period)
	for _, p := range doc.Periods {
		period := contentkey.Period{ID: p.ID, Index: p.Index, Start: p.Start, End: p.End}
		if p.StartOffset != "" {
			period.Start, period.End = p.StartOffset, p.EndOffset
		}
		periods[p.ID] = period
	}
	all := make(map[contentkey.KID]use)
	for i := range doc.UsageRules {
		rule := &doc.UsageRules[i]
		kid, err := contentkey.ParseKID(rule.KID)
		if _, taken := all[kid]; err != nil || taken {
			continue
		}
		u := use{track: rule.IntendedTrackType}
		for j := range rule.Filters {
			if id, ok := rule.Filters[j].Attr("periodId"); ok && rule.Filters[j].Kind == cpix.KeyPeriodFilter {
				u.period = periods[id]
			}
		}
		all[kid] = u
	}
	return all
}

func (c *cpixReader) Read() (keystore.ImportedKey, error) {
	if c.next == len(c.doc.ContentKeys) {
		return keystore.ImportedKey{}, io.EOF
	}
	from := &c.doc.ContentKeys[c.next]
	c.next++
	k, err := c.read(from)
	if err != nil {
		return keystore.ImportedKey{}, &RowError{Reason: fmt.Sprintf("ContentKey %d: %v", c.next, err)}
	}
	return k, nil
}

func (c *cpixReader) read(from *cpix.ContentKey) (k keystore.ImportedKey, err error) {
	for _, part := range []struct {
		field field
		text  string
	}{{fieldKID, from.KID}, {fieldScheme, from.Scheme}, {fieldContentID, c.doc.ContentID}} {
		if err := set(&k, part.field, part.text); err != nil {
			return k, err
		}
	}
	if from.KID == "" {
		return k, complete(&k, [numFields]bool{})
	}
	if from.ExplicitIV != "" {
		if k.IV, err = contentkey.ParseIV(from.ExplicitIV); err != nil {
			return k, fmt.Errorf("explicitIV: %w", err)
		}
		k.HasIV = true
	}
	if c.opener != nil {
		k.Value, err = c.opener.Open(&from.Secret)
	} else {
		k.Value, err = from.Secret.Plain()
	}
	if err != nil {
		return k, err
	}
	u := c.uses[k.KID]
	k.Track, k.Period = u.track, u.period
	return k, complete(&k, [numFields]bool{fieldKID: true, fieldKey: true})
}

// cpixWriter writes one document, some hundred content keys at a time, each
// of which are a document of their own until they are written.
type cpixWriter struct {
	w      io.Writer
	sealer *cpix.Sealer // nil for keys in clear
	rows   []Row
}

const (
	cpixRoot = `<?xml version="1.0" encoding="UTF-8"?>
<cpix:CPIX%s version="2.3" xmlns:cpix="` + cpix.Namespace + `" xmlns:pskc="` + cpix.NamespacePSKC + `" xmlns:enc="` +
		cpix.NamespaceXENC + `" xmlns:ds="` + cpix.NamespaceDS + `">` + "\n"
	cpixBegin = "<cpix:ContentKeyList>\n"
	cpixEnd   = "</cpix:ContentKeyList>\n</cpix:CPIX>\n"

	cpixBatch = 500
)

// NewCPIXWriter begins a document for one content, or for several when the
// content ID is "". Its keys are encrypted to the certificate, or in clear
// when that is nil. random is the source of keys and IVs.
func NewCPIXWriter(w io.Writer, random io.Reader, contentID string, to *x509.Certificate) (Writer, error) {
	c := &cpixWriter{w: w}
	content, delivery := "", ""
	if contentID != "" {
		content = ` contentId="` + xmltree.Escape(contentID) + `"`
	}
	if to != nil {
		var err error
		if c.sealer, err = cpix.NewSealer(random, []*x509.Certificate{to}); err != nil {
			return nil, err
		}
		delivery = "<cpix:DeliveryDataList><cpix:DeliveryData><cpix:DeliveryKey><ds:X509Data><ds:X509Certificate>" +
			base64.StdEncoding.EncodeToString(to.Raw) +
			"</ds:X509Certificate></ds:X509Data></cpix:DeliveryKey></cpix:DeliveryData></cpix:DeliveryDataList>\n"
	}
	doc, err := cpix.Parse([]byte(fmt.Sprintf(cpixRoot, content) + delivery + cpixBegin + cpixEnd))
	if err != nil {
		return nil, fmt.Errorf("CPIX: %w", err)
	}
	if to != nil {
		if err := doc.SetDelivery(c.sealer); err != nil {
			return nil, fmt.Errorf("CPIX: %w", err)
		}
	}
	head, err := doc.Bytes()
	if err != nil {
		return nil, fmt.Errorf("CPIX: %w", err)
	}
	_, err = w.Write(bytes.TrimSuffix(head, []byte(cpixEnd)))
	return c, err
}

func (c *cpixWriter) Write(r *Row) error {
	c.rows = append(c.rows, *r)
	if len(c.rows) < cpixBatch {
		return nil
	}
	return c.flush()
}

func (c *cpixWriter) Close() error {
	if err := c.flush(); err != nil {
		return err
	}
	_, err := io.WriteString(c.w, cpixEnd)
	return err
}

// flush writes the rows that are at hand.
func (c *cpixWriter) flush() error {
	if len(c.rows) == 0 {
		return nil
	}
	var skeleton strings.Builder
	fmt.Fprintf(&skeleton, cpixRoot, "")
	begin := skeleton.Len() + len(cpixBegin)
	skeleton.WriteString(cpixBegin)
	for i := range c.rows {
		r := &c.rows[i]
		skeleton.WriteString(`<cpix:ContentKey kid="` + r.KID.String() + `"`)
		if r.HasIV {
			skeleton.WriteString(` explicitIV="` + r.IV.String() + `"`)
		}
		if r.Scheme != 0 {
			skeleton.WriteString(` commonEncryptionScheme="` + r.Scheme.String() + `"`)
		}
		skeleton.WriteString("></cpix:ContentKey>\n")
	}
	skeleton.WriteString(cpixEnd)
	doc, err := cpix.Parse([]byte(skeleton.String()))
	if err != nil {
		return fmt.Errorf("CPIX: %w", err)
	}
	for i := range c.rows {
		v := &c.rows[i].Value
		if c.sealer == nil {
			doc.SetValue(i, v, nil)
		} else if err := doc.SetSealed(i, v, c.sealer, nil); err != nil {
			return fmt.Errorf("CPIX: %w", err)
		}
	}
	text, err := doc.Bytes()
	if err != nil {
		return fmt.Errorf("CPIX: %w", err)
	}
	_, err = c.w.Write(bytes.TrimSuffix(text[begin:], []byte(cpixEnd)))
	clear(text)
	for i := range c.rows {
		clear(c.rows[i].Value[:])
	}
	c.rows = c.rows[:0]
	return err
}
