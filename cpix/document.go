// Package cpix reads and edits DASH-IF CPIX documents.
//
// A key provider's answer is the request with values spliced in. A
// [Document] therefore keeps the bytes that it was parsed from; its exported
// fields are a reading of them, and the methods that change something queue
// edits, which [Document.Bytes] applies. Whatever is not edited comes back
// byte for byte: order, prefixes, quotes, comments, unknown elements.
//
// The package knows names, structure and the encryption of content keys. It
// judges nothing beyond well-formed XML with the right root: which elements a
// protocol wants, and what their texts may be, is the affair of package speke.
// Attribute texts are trimmed of white space; an absent attribute and an
// empty one both read as "".
package cpix

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"spekeasy/internal/reuse"
	"spekeasy/internal/xmltree"
)

// Namespace names of CPIX and of what it builds on.
const (
	Namespace      = "urn:dashif:org:cpix"
	NamespacePSKC  = "urn:ietf:params:xml:ns:keyprov:pskc"
	NamespaceSPEKE = "urn:aws:amazon:com:speke" // SPEKE v1 only
	NamespaceDS    = "http://www.w3.org/2000/09/xmldsig#"
	NamespaceXENC  = "http://www.w3.org/2001/04/xmlenc#"
)

// ErrRoot reports a document whose root is not cpix:CPIX.
var ErrRoot = errors.New("root element is not CPIX")

// A Document is a parsed CPIX document with the edits queued so far. It is
// not safe for concurrent use, and must not be copied.
type Document struct {
	ID        string // CPIX@id
	ContentID string // CPIX@contentId
	Version   string // CPIX@version

	DeliveryData []DeliveryData
	ContentKeys  []ContentKey
	DRMSystems   []DRMSystem
	Periods      []Period
	UsageRules   []UsageRule

	Lists Lists // how often each list element occurs under the root

	tree       xmltree.Doc
	edits      xmltree.Edits
	signatures []*xmltree.Element
	signals    []Signal // of the DRM systems, which have parts of it
	filters    []Filter // of the usage rules
	pskc, enc  namespace
	plain      plainTags // of the latest content key in clear
}

// maxKept is how many entries of a list a document that is reset has memory
// for.
const maxKept = 1024

// Reset makes d a document without content, which keeps its memory for the
// next one that it parses. The slices that d had are cleared and must not be
// used any more; its texts are good for ever.
func (d *Document) Reset() {
	d.tree.Reset()
	d.edits.Reset(&d.tree)
	*d = Document{
		DeliveryData: reuse.Slice(d.DeliveryData, maxKept),
		ContentKeys:  reuse.Slice(d.ContentKeys, maxKept),
		DRMSystems:   reuse.Slice(d.DRMSystems, maxKept),
		Periods:      reuse.Slice(d.Periods, maxKept),
		UsageRules:   reuse.Slice(d.UsageRules, maxKept),
		tree:         d.tree,
		edits:        d.edits,
		signatures:   reuse.Slice(d.signatures, maxKept),
		signals:      reuse.Slice(d.signals, maxKept),
		filters:      reuse.Slice(d.filters, maxKept),
	}
}

// Source returns the bytes that the document was parsed from.
func (d *Document) Source() string { return d.tree.Source() }

// HasPSKC reports whether the root binds a prefix to the PSKC namespace
// (S2-PAY-04).
func (d *Document) HasPSKC() bool {
	p, ok := d.tree.Root().PrefixFor(NamespacePSKC)
	return ok && p != ""
}

// Attrs calls f for each attribute of the filter that is in no namespace.
func (f *Filter) Attrs(yield func(name, value string) bool) {
	attrs := f.el.Attrs()
	for i := range attrs {
		if _, declares := attrs[i].Declares(); declares || attrs[i].SpaceIndex() != 0 {
			continue
		}
		if !yield(attrs[i].Local(), strings.TrimSpace(attrs[i].Value())) {
			return
		}
	}
}

// Lists counts the list elements of a document. More than one of a kind is
// outside CPIX; their entries are read all the same.
type Lists struct {
	DeliveryData, ContentKey, DRMSystem, Period, UsageRule int
}

// DeliveryData is one recipient of encrypted content keys.
type DeliveryData struct {
	ID           string
	Certificates []string // texts of ds:X509Certificate: base64 of DER, line breaks possible
	DocumentKey  *Secret  // nil when absent
	MACKey       *Secret  // nil when absent; in any of its three shapes (D-15)
	DocumentAlgo string   // DocumentKey@Algorithm
	MACAlgo      string   // MACMethod@Algorithm
	key          *xmltree.Element
}

// ContentKey is one content key, or the request for one.
type ContentKey struct {
	KID        string
	Scheme     string // @commonEncryptionScheme
	ExplicitIV string // base64
	Secret     Secret // zero in a request; the first that is not, if there are several
	Values     int    // Data elements, of which CPIX allows one
	HDCPLevel  string // HDCPData@HLSHDCPLevel (CPIX 2.4)

	el, data, hdcp *xmltree.Element
	kid            *xmltree.Attr
}

// Secret is the value of a content key, document key or MAC key: PlainValue
// or EncryptedValue, and the MAC over the latter. All texts are base64.
type Secret struct {
	PlainValue  string
	Algorithm   string // of the EncryptedValue, a URI; "" when none is named
	CipherValue string
	ValueMAC    string
}

// IsZero reports whether there is neither a plain nor an encrypted value.
func (s Secret) IsZero() bool { return s.PlainValue == "" && s.CipherValue == "" }

// String hides the value.
func (Secret) String() string { return "(secret)" }

// GoString hides the value.
func (Secret) GoString() string { return "(secret)" }

// DRMSystem is the signaling of one DRM system for one content key.
type DRMSystem struct {
	KID        string
	SystemID   string
	AllowedCPC string // @HLSAllowedCPC (CPIX 2.4)
	Signals    []Signal

	el  *xmltree.Element
	kid *xmltree.Attr
}

// Kind says which signaling element a [Signal] is.
type Kind uint8

// The signaling elements of CPIX and of the SPEKE v1 namespace.
const (
	PSSH                   Kind = iota // cpix:PSSH
	ContentProtectionData              // cpix:ContentProtectionData
	HLSSignalingData                   // cpix:HLSSignalingData
	SmoothProtectionHeader             // cpix:SmoothStreamingProtectionHeaderData
	URIExtXKey                         // cpix:URIExtXKey, until CPIX 2.3
	KeyFormat                          // speke:KeyFormat
	KeyFormatVersions                  // speke:KeyFormatVersions
	ProtectionHeader                   // speke:ProtectionHeader
	numKinds
)

var kindNames = [numKinds]string{
	"PSSH", "ContentProtectionData", "HLSSignalingData", "SmoothStreamingProtectionHeaderData",
	"URIExtXKey", "KeyFormat", "KeyFormatVersions", "ProtectionHeader",
}

// String returns the local name of the element.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Signal is one signaling element: a placeholder in a request, a value in an
// answer.
type Signal struct {
	Kind       Kind
	Playlist   string // HLSSignalingData@playlist
	Robustness string // ContentProtectionData@robustness (CPIX 2.4)

	el *xmltree.Element
}

// Text returns the text of the element with white space around it trimmed.
func (s *Signal) Text() string { return strings.TrimSpace(s.el.Text()) }

// Value returns the bytes whose base64 the element holds.
func (s *Signal) Value() ([]byte, error) {
	b, err := decodeBase64(s.el.Text())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Kind, err)
	}
	return b, nil
}

// Period is a ContentKeyPeriod; all members are literal texts.
type Period struct {
	ID, Index              string
	Start, End             string // xs:dateTime
	StartOffset, EndOffset string // xs:duration (CPIX 2.4)
}

// UsageRule is a ContentKeyUsageRule: which tracks and periods a content key
// is for.
type UsageRule struct {
	KID               string
	IntendedTrackType string
	Filters           []Filter

	kid *xmltree.Attr
}

// FilterKind says what a [Filter] selects by.
type FilterKind uint8

// The filters of CPIX. OtherFilter is an element of the CPIX namespace that
// is none of the others; elements of foreign namespaces are not listed.
const (
	KeyPeriodFilter FilterKind = iota
	LabelFilter
	VideoFilter
	AudioFilter
	BitrateFilter
	OtherFilter
)

func filterKind(name string) FilterKind {
	switch name {
	case "KeyPeriodFilter":
		return KeyPeriodFilter
	case "LabelFilter":
		return LabelFilter
	case "VideoFilter":
		return VideoFilter
	case "AudioFilter":
		return AudioFilter
	case "BitrateFilter":
		return BitrateFilter
	}
	return OtherFilter
}

// Filter is one filter of a usage rule.
type Filter struct {
	Kind FilterKind
	el   *xmltree.Element
}

// Attr returns the trimmed value of an attribute, such as "minPixels"; ok is
// false when there is none.
func (f *Filter) Attr(name string) (value string, ok bool) {
	a := f.el.Attr(name)
	if a == nil {
		return "", false
	}
	return strings.TrimSpace(a.Value()), true
}

// decodeBase64 decodes xs:base64Binary: white space is skipped and non-zero
// trailing bits are tolerated (CPIX-TYP-02, -08).
func decodeBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s) // skips line ends by itself
	if err != nil && strings.ContainsAny(s, " \t") {
		b, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
	}
	if err != nil {
		return nil, errors.New("not base64") // the decoder's own error can quote its input
	}
	return b, nil
}
