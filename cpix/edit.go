package cpix

import (
	"strconv"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/internal/xmltree"
)

// Edit begins anew: it forgets the edits that were queued and makes room for
// about n. It is optional.
func (d *Document) Edit(n int) {
	d.edits.Reset(&d.tree)
	d.edits.Grow(n)
	d.pskc = namespace{name: NamespacePSKC, usual: "pskc"}
	d.enc = namespace{name: NamespaceXENC, usual: "enc"}
	d.plain = usualTags
}

// Bytes returns the document with all queued edits made. Without edits that
// is the document as it was parsed, to the byte. The error says that two
// edits met at one place, which is a defect of the caller.
func (d *Document) Bytes() ([]byte, error) { return d.AppendTo(nil) }

// AppendTo appends to b what [Document.Bytes] returns.
func (d *Document) AppendTo(b []byte) ([]byte, error) { return d.edits.AppendTo(b) }

// namespace is a namespace that edits write elements of.
type namespace struct {
	name     string
	usual    string // the prefix that is declared for it when there is none
	declared string // what an edit declared on the root, "" for nothing

	within *xmltree.Element // whose children are written with the prefix
	prefix string
}

// prefix returns the prefix, with its colon, under which new children of e
// in the given namespace are written: one that is in scope there, or the
// usual one declared on the root, or that one with a number if it is taken
// (S2-PAY-21).
func (d *Document) prefix(e *xmltree.Element, n *namespace) string {
	if p := e.Parent(); p != nil && !e.Declares() {
		e = p // the list that e stands in; it is asked for once
	}
	if n.within != e {
		n.within, n.prefix = e, d.findPrefix(e, n)+":"
	}
	return n.prefix
}

func (d *Document) findPrefix(e *xmltree.Element, n *namespace) string {
	if p, ok := e.PrefixFor(n.name); ok {
		return p
	}
	if n.declared == "" {
		n.declared = n.usual
		if d.tree.Declares(n.usual) {
			taken := d.tree.Prefixes()
			for i := 1; taken[n.declared]; i++ {
				n.declared = n.usual + strconv.Itoa(i)
			}
		}
		d.edits.AddAttr(d.tree.Root(), "xmlns:"+n.declared, n.name)
	}
	return n.declared
}

// own returns the prefix that e itself was written with, with its colon; new
// children of e's own namespace are spelled like it.
func own(e *xmltree.Element) string { return strings.TrimSuffix(e.QName(), e.Local()) }

// SetKIDs changes the key IDs of the content keys to kids, which are in the
// same order, and with each one that of every DRM system and usage rule that
// names the old one in any letter case (SX-KID-02). A key ID that stays keeps
// its spelling. Everything else that a key ID is part of, such as signaling,
// is the caller's to fill accordingly.
func (d *Document) SetKIDs(kids []contentkey.KID) {
	override := make(map[contentkey.KID]contentkey.KID, len(kids))
	for i := range kids {
		if old, err := contentkey.ParseKID(d.ContentKeys[i].KID); err == nil && old != kids[i] {
			override[old] = kids[i]
		}
	}
	set := func(a *xmltree.Attr, text string) {
		old, err := contentkey.ParseKID(text)
		if err != nil {
			return
		}
		if kid, ok := override[old]; ok {
			d.edits.SetAttr(a, kid.String())
		}
	}
	for i := range d.ContentKeys {
		set(d.ContentKeys[i].kid, d.ContentKeys[i].KID)
	}
	for i := range d.DRMSystems {
		set(d.DRMSystems[i].kid, d.DRMSystems[i].KID)
	}
	for i := range d.UsageRules {
		set(d.UsageRules[i].kid, d.UsageRules[i].KID)
	}
}

// SetExplicitIV sets the explicitIV attribute of content key i to the base64
// of the bytes.
func (d *Document) SetExplicitIV(i int, iv contentkey.IV) {
	d.setAttr(d.ContentKeys[i].el, "explicitIV", iv.String())
}

// HDCP is what CPIX 2.4 says of output protection for one content key.
type HDCP struct {
	Level            string // HDCP-LEVEL of EXT-X-STREAM-INF: "NONE", "TYPE-0", "TYPE-1"; "" for none
	OutputProtection []byte // XML fragment of the DASH OutputProtection element; nil for none
}

// SetValue gives content key i its value in clear: Data with a PlainValue,
// and HDCPData, in its place or else before Data, when hdcp is not nil
// (S21-PAY-72).
func (d *Document) SetValue(i int, v *contentkey.Value, hdcp *HDCP) {
	k := &d.ContentKeys[i]
	c, p := own(k.el), d.prefix(k.el, &d.pskc)
	if d.plain.cpix != c || d.plain.pskc != p { // all keys of a document are spelled alike, as a rule
		d.plain = newPlainTags(c, p)
	}
	d.setData(k, hdcp, xmltree.Piece{Before: d.plain.before, Body: v[:], After: d.plain.after})
}

// plainTags are the tags around a content key in clear, with certain prefixes.
type plainTags struct {
	cpix, pskc    string
	before, after string
}

func newPlainTags(c, p string) plainTags {
	return plainTags{
		cpix: c, pskc: p,
		before: "<" + c + "Data><" + p + "Secret><" + p + "PlainValue>",
		after:  "</" + p + "PlainValue></" + p + "Secret></" + c + "Data>",
	}
}

// usualTags are those of nearly every document.
var usualTags = newPlainTags("cpix:", "pskc:")

// setData puts the Data element in place: over one that came empty with the
// request, or else at the end of the ContentKey.
func (d *Document) setData(k *ContentKey, hdcp *HDCP, data xmltree.Piece) {
	if text := hdcpData(own(k.el), hdcp); text != "" && k.hdcp != nil {
		d.edits.Replace(k.hdcp, xmltree.Piece{Before: text})
	} else {
		data.Before = text + data.Before
	}
	if k.data != nil {
		d.edits.Replace(k.data, data)
		return
	}
	d.edits.Append(k.el, data)
}

func hdcpData(c string, hdcp *HDCP) string {
	if hdcp == nil || hdcp.Level == "" && hdcp.OutputProtection == nil {
		return ""
	}
	out := "<" + c + "HDCPData"
	if hdcp.Level != "" {
		out += ` HLSHDCPLevel="` + xmltree.Escape(hdcp.Level) + `"`
	}
	if hdcp.OutputProtection == nil {
		return out + "/>"
	}
	return out + "><" + c + "HDCPOutputProtectionData>" + encodeBase64(hdcp.OutputProtection) +
		"</" + c + "HDCPOutputProtectionData></" + c + "HDCPData>"
}

// Fill replaces the content of a signaling element by the base64 of head and
// value as one. value must not change until [Document.Bytes] was called.
func (d *Document) Fill(s *Signal, head string, value []byte) {
	d.edits.SetContent(s.el, xmltree.Piece{Head: head, Body: value})
}

// Remove takes a signaling element out of its DRMSystem.
func (d *Document) Remove(s *Signal) { d.edits.Remove(s.el) }

// SetRobustness sets the robustness attribute of a ContentProtectionData
// element (CPIX 2.4, S21-PAY-73).
func (d *Document) SetRobustness(s *Signal, robustness string) {
	d.setAttr(s.el, "robustness", robustness)
}

// SetAllowedCPC sets the HLSAllowedCPC attribute of DRM system i (CPIX 2.4,
// S21-PAY-74).
func (d *Document) SetAllowedCPC(i int, cpc string) {
	d.setAttr(d.DRMSystems[i].el, "HLSAllowedCPC", cpc)
}

func (d *Document) setAttr(e *xmltree.Element, name, value string) {
	if a := e.Attr(name); a != nil {
		d.edits.SetAttr(a, value)
		return
	}
	d.edits.AddAttr(e, name, value)
}

// DeclarePSKC declares the PSKC namespace on the root unless some prefix is
// bound to it there (S2-PAY-04).
func (d *Document) DeclarePSKC() { d.findPrefix(d.tree.Root(), &d.pskc) }

// RemoveID takes CPIX@id away, which SPEKE v2 answers must not have
// (S2-PAY-03).
func (d *Document) RemoveID() {
	root := d.tree.Root()
	if a := root.Attr("id"); a != nil {
		d.edits.RemoveAttr(root, a)
	}
}

// RemoveSignatures takes the signatures under the root away, since none
// survives an edit (CPIX-SIG-07).
func (d *Document) RemoveSignatures() {
	for _, s := range d.signatures {
		d.edits.Remove(s)
	}
}

// RemoveV1 takes away what SPEKE v2 left behind: elements, attributes and
// declarations of the v1 namespace, and URIExtXKey (S2-PAY-06). Signals of
// those elements must not be edited otherwise.
func (d *Document) RemoveV1() {
	if !d.HasV1() {
		return
	}
	d.removeV1(d.tree.Root())
}

// HasV1 reports whether there is anything of what SPEKE v2 left behind
// (S2-PAY-06): the v1 namespace, if only declared, or a URIExtXKey among the
// signals.
func (d *Document) HasV1() bool {
	for _, space := range d.tree.Spaces() {
		if space == NamespaceSPEKE {
			return true
		}
	}
	for i := range d.DRMSystems {
		for j := range d.DRMSystems[i].Signals {
			if d.DRMSystems[i].Signals[j].Kind == URIExtXKey {
				return true
			}
		}
	}
	return false
}

func (d *Document) removeV1(e *xmltree.Element) {
	spaces := d.tree.Spaces()
	space := spaces[e.SpaceIndex()]
	if space == NamespaceSPEKE || space == Namespace && e.Local() == "URIExtXKey" {
		d.edits.Remove(e)
		return
	}
	attrs := e.Attrs()
	for i := range attrs {
		a := &attrs[i]
		_, declares := a.Declares()
		if declares && a.Value() == NamespaceSPEKE || !declares && spaces[a.SpaceIndex()] == NamespaceSPEKE {
			d.edits.RemoveAttr(e, a)
		}
	}
	for c := e.FirstChild(); c != nil; c = c.Next() {
		d.removeV1(c)
	}
}
