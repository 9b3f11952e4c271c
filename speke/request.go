package speke

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/internal/reuse"
)

// Policy is what a key provider offers to one customer. The zero value
// offers no DRM system.
type Policy struct {
	V1 []drm.System // systems on offer to SPEKE v1
	V2 []drm.System // systems on offer to SPEKE v2.0 and v2.1

	// V1Scheme is the scheme that v1 requests, which name none, are signaled
	// with; 0 derives it from the systems asked for (S1-PAY-14).
	V1Scheme contentkey.Scheme

	// MaxKeys bounds the content keys of a request; 0 means no bound.
	MaxKeys int

	Contract ContractPolicy

	// Output is what SPEKE 2.1 answers say beyond 2.0, nothing by default
	// (S21-PAY-75).
	Output Output
}

// Output is the output protection that SPEKE 2.1 answers announce.
type Output struct {
	HDCP       map[string]cpix.HDCP    // by intendedTrackType
	Robustness map[drm.SystemID]string // of ContentProtectionData
	AllowedCPC map[drm.SystemID]string // HLSAllowedCPC of DRMSystem
}

func (p *Policy) systems(profile Profile) []drm.System {
	if profile == V10 {
		return p.V1
	}
	return p.V2
}

// Request is a key request that passed all checks. Whoever answers many can
// have one Request parse one after another, in the same memory.
type Request struct {
	Profile   Profile
	ContentID string
	Scheme    contentkey.Scheme // of all keys; derived in v1
	Keys      []Key             // one per ContentKey, in document order
	Systems   []System          // one per DRMSystem, in document order

	doc    cpix.Document
	output *Output
	uses   []Use  // of the keys, which have parts of it
	answer []byte // what Answer returned
}

// What a request that is reset has memory for.
const (
	maxKept       = 1024      // keys, systems, uses
	maxKeptAnswer = 256 << 10 // bytes
)

// Reset makes r an empty request, which keeps its memory for the next one that
// it parses, unless that is unusually much. Whatever else refers to this
// memory is cleared and must not be used any more: the slices of r, its
// document, and the answer's bytes. Texts are good for ever.
func (r *Request) Reset() {
	r.doc.Reset()
	*r = Request{
		Keys:    reuse.Slice(r.Keys, maxKept),
		Systems: reuse.Slice(r.Systems, maxKept),
		doc:     r.doc,
		uses:    reuse.Slice(r.uses, maxKept),
		answer:  reuse.Slice(r.answer, maxKeptAnswer),
	}
}

// Key is one content key that is asked for.
type Key struct {
	KID   contentkey.KID // as the encryptor named it
	IV    contentkey.IV  // explicitIV of the request
	HasIV bool
	AddIV bool // the answer adds explicitIV (S2-PAY-13, S1-PAY-07)
	Uses  []Use
}

// Use is a track and period that a content key is for, from one usage rule.
type Use struct {
	Track  string // intendedTrackType; "" in v1
	Period contentkey.Period
}

// System is one DRMSystem element: signaling that is asked for.
type System struct {
	drm.System
	Key  int // index of the content key
	Want drm.Fields
}

// ParseRequest reads a key request and checks it in the order of
// docs/conformance.md, section "Order of checks", so that the first fault in
// that order is the one reported. Every error is an [*Error].
func ParseRequest(h http.Header, body []byte, policy *Policy) (*Request, error) {
	r := new(Request)
	if err := r.Parse(h, body, policy); err != nil {
		return nil, err
	}
	return r, nil
}

// Parse is [ParseRequest] into the memory of the request before, which it
// resets; see [Request.Reset]. Neither body nor its memory is kept. After an
// error r is not to be used but to be reset, or to parse another request.
func (r *Request) Parse(h http.Header, body []byte, policy *Policy) error {
	r.Reset()
	profile, err := profileOf(h)
	if err != nil {
		return err
	}
	if err := r.doc.Parse(body); err != nil {
		return invalid(textMalformed, err)
	}
	if profile == V20 || profile == V21 {
		if err := checkContentID(r.doc.ContentID, textMissingContentID, textLongContentID); err != nil {
			return err
		}
	}
	if profile, err = checkVersion(profile, &r.doc); err != nil {
		return err
	}
	r.Profile, r.ContentID, r.output = profile, r.doc.ContentID, &policy.Output
	if profile == V10 {
		r.ContentID = r.doc.ID
		if err := checkContentID(r.doc.ID, textMissingID, textLongID); err != nil {
			return err
		}
	}
	for _, check := range [...]func(*Request, *Policy) error{
		(*Request).checkLists,
		(*Request).checkKeys,
		(*Request).checkSystems,
		(*Request).checkSchemes,
		(*Request).checkContract,
		(*Request).checkPlaceholders,
		(*Request).checkPolicy,
	} {
		if err := check(r, policy); err != nil {
			return r.refused(err)
		}
	}
	return nil
}

// refused adds to an error what was asked for.
func (r *Request) refused(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.ContentID, e.KIDs = r.ContentID, r.KIDs()
	}
	return err
}

// KIDs returns the key IDs as the encryptor named them, in document order.
func (r *Request) KIDs() []contentkey.KID {
	kids := make([]contentkey.KID, 0, len(r.Keys))
	for i := range r.Keys {
		if r.Keys[i].KID != (contentkey.KID{}) {
			kids = append(kids, r.Keys[i].KID)
		}
	}
	return kids
}

// maxText bounds the texts, in bytes, that are recorded with each content key
// or written into the signaling of each system. Without it a document of one
// long text and many keys would make answers and records of its size squared.
const maxText = 1024

func checkContentID(id, missing, long string) error {
	switch {
	case id == "":
		return invalid(missing, nil)
	case len(id) > maxText:
		return invalid(long, fmt.Errorf("%d bytes, at most %d allowed", len(id), maxText))
	}
	return nil
}

// checkLists holds S2-ERR-31: each list once and not empty.
func (r *Request) checkLists(*Policy) error {
	l := r.doc.Lists
	switch {
	case l.ContentKey != 1 || len(r.doc.ContentKeys) == 0:
		return invalid(textMissingElement+"ContentKeyList", fmt.Errorf("%d lists with %d entries", l.ContentKey, len(r.doc.ContentKeys)))
	case l.DRMSystem != 1 || len(r.doc.DRMSystems) == 0:
		return invalid(textMissingElement+"DRMSystemList", fmt.Errorf("%d lists with %d entries", l.DRMSystem, len(r.doc.DRMSystems)))
	case l.DeliveryData > 1 || l.Period > 1:
		return invalid(textMalformed, errors.New("a list occurs twice"))
	}
	for i := range r.doc.Periods {
		p := &r.doc.Periods[i]
		if max(len(p.ID), len(p.Index), len(p.Start), len(p.End), len(p.StartOffset), len(p.EndOffset)) > maxText {
			return invalid(textMalformed, fmt.Errorf("an attribute of ContentKeyPeriod %d is longer than %d bytes", i, maxText))
		}
	}
	return nil
}

// checkKeys reads the ContentKey elements (S2-ERR-33, -13, then -14).
func (r *Request) checkKeys(*Policy) error {
	r.Keys = append(r.Keys, make([]Key, len(r.doc.ContentKeys))...)
	for i := range r.doc.ContentKeys {
		k := &r.doc.ContentKeys[i]
		var err error
		if r.Keys[i].KID, err = parseUUID(k.KID, "ContentKey@kid"); err != nil {
			return err
		}
		if r.Profile != V10 && k.Scheme == "" {
			return invalid(textMissingScheme+k.KID, nil)
		}
	}
	if r.Profile == V10 {
		return nil
	}
	first := r.doc.ContentKeys[0].Scheme
	for i := range r.doc.ContentKeys {
		if r.doc.ContentKeys[i].Scheme != first {
			return invalid(textMixedSchemes, nil)
		}
	}
	r.Scheme = parseScheme(first, r.Profile)
	return nil
}

// parseScheme reads a commonEncryptionScheme; 0 for what no system supports
// (S2-ERR-37). SPEKE 2.1 allows HLS method names too (S21-PAY-71).
func parseScheme(s string, p Profile) contentkey.Scheme {
	if scheme, err := contentkey.ParseScheme(s); err == nil {
		return scheme
	}
	if p == V21 {
		switch s {
		case "AES-128":
			return contentkey.Cbc1
		case "SAMPLE-AES":
			return contentkey.Cbcs
		case "SAMPLE-AES-CTR":
			return contentkey.Cenc
		}
	}
	return 0
}

func parseUUID(text, what string) (contentkey.KID, error) {
	if text == "" {
		return contentkey.KID{}, invalid(textMissing+what, nil)
	}
	id, err := contentkey.ParseKID(text)
	if err != nil {
		return id, invalid(textInvalid+what, err)
	}
	return id, nil
}

// keyIndex finds content keys by key ID: by looking through the few of a
// usual request, by a map in long ones, so that work stays linear.
type keyIndex struct {
	keys []Key
	long map[contentkey.KID]int
}

const shortList = 16

// indexKeys holds the uniqueness of S2-ERR-35.
func (r *Request) indexKeys() (keyIndex, error) {
	x := keyIndex{keys: r.Keys}
	if len(r.Keys) > shortList {
		x.long = make(map[contentkey.KID]int, len(r.Keys))
	}
	for i := range r.Keys {
		kid := r.Keys[i].KID
		if x.long == nil {
			x.keys = r.Keys[:i]
		}
		if _, dup := x.find(kid); dup {
			return x, invalid(textMalformed, fmt.Errorf("key ID %s occurs twice", kid))
		}
		if x.long != nil {
			x.long[kid] = i
		}
	}
	x.keys = r.Keys
	return x, nil
}

func (x *keyIndex) find(kid contentkey.KID) (int, bool) {
	if x.long != nil {
		i, ok := x.long[kid]
		return i, ok
	}
	for i := range x.keys {
		if x.keys[i].KID == kid {
			return i, true
		}
	}
	return 0, false
}

// checkSystems reads the DRMSystem elements and what else of the keys may be
// malformed (S2-ERR-33, -35, -36).
func (r *Request) checkSystems(p *Policy) error {
	index, err := r.indexKeys()
	if err != nil {
		return err
	}
	for i := range r.doc.ContentKeys {
		if text := r.doc.ContentKeys[i].ExplicitIV; text != "" {
			if r.Keys[i].IV, err = contentkey.ParseIV(text); err != nil {
				return invalid(textMalformed, fmt.Errorf("explicitIV of key ID %s: %w", r.Keys[i].KID, err))
			}
			r.Keys[i].HasIV = true
		}
	}
	offered := p.systems(r.Profile)
	r.Systems = append(r.Systems, make([]System, len(r.doc.DRMSystems))...)
	for i := range r.doc.DRMSystems {
		e, s := &r.doc.DRMSystems[i], &r.Systems[i]
		kid, err := parseUUID(e.KID, "DRMSystem@kid")
		if err != nil {
			return err
		}
		sameSystem := i > 0 && e.SystemID == r.doc.DRMSystems[i-1].SystemID
		var id contentkey.KID
		if !sameSystem {
			if id, err = parseUUID(e.SystemID, "DRMSystem@systemId"); err != nil {
				return err
			}
		}
		var ok bool
		if s.Key, ok = index.find(kid); !ok {
			return invalid(textMalformed, fmt.Errorf("DRMSystem for key ID %s, which is not in the ContentKeyList", kid))
		}
		if sameSystem {
			s.System = r.Systems[i-1].System
		} else if s.System = findSystem(offered, drm.SystemID(id)); s.System == nil {
			return invalid(textSystem+e.SystemID, nil)
		}
	}
	return nil
}

// Systems that have rules of their own in SPEKE.
var (
	fairPlayID     = drm.FairPlay{}.ID()
	hlsAES128V1ID  = drm.HLSAES128V1{}.ID()
	hlsAES128ID    = drm.HLSAES128{}.ID()
	hlsSampleAESID = drm.HLSSampleAES{}.ID()
)

func findSystem(offered []drm.System, id drm.SystemID) drm.System {
	for _, s := range offered {
		if s.ID() == id {
			return s
		}
	}
	return nil
}

// checkSchemes holds S2-ERR-15 and decides the scheme of v1 requests and
// which answers add an explicitIV.
func (r *Request) checkSchemes(p *Policy) error {
	if r.Profile == V10 {
		r.Scheme = r.v1Scheme(p)
		for i := range r.Systems {
			s := &r.Systems[i]
			if s.ID() == fairPlayID && !r.Keys[s.Key].HasIV {
				r.Keys[s.Key].AddIV = true // S1-PAY-07
			}
		}
		return nil
	}
	for i := range r.Systems {
		// No system plays a scheme that nobody knows, not even one that
		// plays all (S2-ERR-37).
		if r.Scheme == 0 || !r.Systems[i].Supports(r.Scheme) {
			return invalid(textSchemeSystem+r.doc.DRMSystems[i].SystemID, nil)
		}
	}
	if r.Scheme == contentkey.Cbcs || r.Scheme == contentkey.Cbc1 {
		for i := range r.Keys {
			r.Keys[i].AddIV = !r.Keys[i].HasIV // S2-PAY-13
		}
	}
	return nil
}

// v1Scheme is S1-PAY-14: FairPlay in the document means cbcs for all, AES-128
// alone means cbc1, anything else cenc.
func (r *Request) v1Scheme(p *Policy) contentkey.Scheme {
	fairplay, other := false, false
	for i := range r.Systems {
		switch r.Systems[i].ID() {
		case fairPlayID:
			fairplay = true
		case hlsAES128V1ID:
		default:
			other = true
		}
	}
	switch {
	case fairplay:
		return contentkey.Cbcs
	case !other:
		return contentkey.Cbc1
	case p.V1Scheme != 0:
		return p.V1Scheme
	}
	return contentkey.Cenc
}

// Recipients returns the certificates that the content keys must be encrypted
// to, in document order, or none when the request asks for clear keys. The
// error is the one of [CertificateError]: one unusable certificate refuses
// the request (S2-ERR-38, SX-CKE-15).
func (r *Request) Recipients() ([]*x509.Certificate, error) {
	if !r.Encrypted() {
		return nil, nil
	}
	if len(r.doc.DeliveryData) == 0 {
		return nil, CertificateError(errors.New("empty DeliveryDataList"))
	}
	certs := make([]*x509.Certificate, len(r.doc.DeliveryData))
	for i := range r.doc.DeliveryData {
		text := recipientText(&r.doc.DeliveryData[i])
		if text == "" {
			return nil, CertificateError(fmt.Errorf("DeliveryData %d has no certificate", i))
		}
		cert, err := cpix.ParseCertificate(text)
		if err != nil {
			return nil, CertificateError(fmt.Errorf("DeliveryData %d: %w", i, err))
		}
		certs[i] = cert
	}
	return certs, nil
}

// Encrypted reports whether the request asks for encrypted content keys
// (SX-CKE-01).
func (r *Request) Encrypted() bool { return r.doc.Lists.DeliveryData > 0 }

// RecipientTexts appends the certificates that [Request.Recipients] reads, as
// they came and one for each DeliveryData, for use as a key of what was made
// for these recipients before.
func (r *Request) RecipientTexts(to []string) []string {
	for i := range r.doc.DeliveryData {
		to = append(to, recipientText(&r.doc.DeliveryData[i]))
	}
	return to
}

// recipientText returns the certificate of a recipient, "" for none. Others
// beside it are taken for its chain.
func recipientText(d *cpix.DeliveryData) string {
	if len(d.Certificates) == 0 {
		return ""
	}
	return d.Certificates[0]
}
