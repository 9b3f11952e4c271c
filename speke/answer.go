package speke

import (
	"errors"
	"fmt"
	"net/http"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
)

// fields says which signaling value fills which element.
var fields = [...]drm.Fields{
	cpix.PSSH:                   drm.PSSH,
	cpix.ContentProtectionData:  drm.ContentProtection,
	cpix.HLSSignalingData:       drm.HLS,
	cpix.SmoothProtectionHeader: drm.Smooth,
	cpix.ProtectionHeader:       drm.Smooth,
	cpix.URIExtXKey:             drm.KeyURI,
	cpix.KeyFormat:              drm.KeyFormat,
	cpix.KeyFormatVersions:      drm.KeyFormatVersions,
}

// v1Only reports whether an element is gone in SPEKE v2 (S2-PAY-06).
func v1Only(k cpix.Kind) bool {
	return k == cpix.URIExtXKey || k == cpix.KeyFormat || k == cpix.KeyFormatVersions || k == cpix.ProtectionHeader
}

// hlsOnly reports whether a system is signaled in HLS playlists alone, so
// that encryptors may send it placeholders which nothing can fill
// (S2-PAY-41).
func hlsOnly(id drm.SystemID) bool {
	return id == fairPlayID || id == hlsAES128ID || id == hlsSampleAESID
}

// refusesUnfilled reports whether a placeholder that nothing can fill refuses
// the request (S2-ERR-42). It is removed instead in v1 (S1-PAY-11) and for
// systems of HLS alone (S2-PAY-41), unless it asks for what the system is:
// the address of a key, for a customer who has set none (S2-CK-03).
func (r *Request) refusesUnfilled(id drm.SystemID, k cpix.Kind) bool {
	if r.Profile == V10 {
		return id == hlsAES128V1ID && k == cpix.URIExtXKey
	}
	return !hlsOnly(id) || k == cpix.HLSSignalingData
}

// checkPlaceholders collects what each DRMSystem element asks for and holds
// S2-ERR-35 for playlists, S2-ERR-42 and S2-ERR-43.
func (r *Request) checkPlaceholders(*Policy) error {
	for i := range r.doc.DRMSystems {
		e, s := &r.doc.DRMSystems[i], &r.Systems[i]
		defined := s.Fields()
		var media, master bool
		for j := range e.Signals {
			sig := &e.Signals[j]
			if r.Profile != V10 && v1Only(sig.Kind) {
				continue
			}
			if sig.Kind == cpix.HLSSignalingData {
				twice := &media
				switch sig.Playlist {
				case "media", "":
				case "master", "multiVariant":
					twice = &master
				default:
					return invalid(textMalformed, fmt.Errorf("HLSSignalingData for playlist %.64q", sig.Playlist))
				}
				if *twice {
					return invalid(textMalformed, errors.New("two HLSSignalingData for one playlist"))
				}
				*twice = true
			}
			field := fields[sig.Kind]
			if field&defined == 0 && r.refusesUnfilled(s.ID(), sig.Kind) {
				return invalid(textUnsupported+sig.Kind.String()+" for DRMSystem "+e.SystemID, nil)
			}
			s.Want |= field & defined
		}
		if c, ok := s.System.(drm.ContentChecker); ok && s.Want != 0 {
			if err := c.CheckContent(r.ContentID); err != nil {
				return &Error{Status: http.StatusUnprocessableEntity, Text: fmt.Sprintf("Unsupported content ID for DRMSystem %s", e.SystemID), Cause: err}
			}
		}
	}
	for i := range r.doc.ContentKeys {
		if k := &r.doc.ContentKeys[i]; !k.Secret.IsZero() || k.Values > 1 {
			return invalid(textMalformed, fmt.Errorf("key ID %s comes with key data", r.Keys[i].KID))
		}
	}
	for i := range r.doc.DeliveryData {
		if d := &r.doc.DeliveryData[i]; d.DocumentKey != nil || d.MACKey != nil {
			return invalid(textMalformed, fmt.Errorf("DeliveryData %d comes with a DocumentKey or MACMethod", i))
		}
	}
	return nil
}

// Grant is what a key provider gives for one content key of a request.
type Grant struct {
	KID   contentkey.KID // differs from the requested one under a KID override
	Value contentkey.Value
	IV    contentkey.IV // stored with the key

	// NoIV says that the IV is not known, so that none is added: the key is
	// another key provider's, who did not tell it.
	NoIV bool

	// HDCPLevel is what another key provider says of output protection (2.1).
	// It goes before what the policy says.
	HDCPLevel string
}

// Format hides the key, also from a verb that does not fit.
func (g Grant) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "(grant of content key %s)", g.KID) }

// TrackIV returns the IV that the encryptor will use for key i: its own, if
// it sent one, or else the stored one (S2-FP-06).
func (r *Request) TrackIV(i int, stored contentkey.IV) contentkey.IV {
	if r.Keys[i].HasIV {
		return r.Keys[i].IV
	}
	return stored
}

// Answer splices the grants, one per key, and the signaling, one per system,
// into the request and returns the answer's body. With a sealer the content
// keys are encrypted to its recipients, which must be those of
// [Request.Recipients]. What it changes is listed in docs/conformance.md under
// S2-ECHO-12; all else comes back byte for byte. The bytes are in the memory
// of the request, see [Request.Reset], and another answer takes their place.
func (r *Request) Answer(grants []Grant, signaling []drm.Signaling, sealer *cpix.Sealer) ([]byte, error) {
	if r.Encrypted() != (sealer != nil) {
		return nil, errors.New("answer does not fit the request")
	}
	if err := r.begin(grants, signaling); err != nil {
		return nil, err
	}
	if sealer != nil {
		if err := r.doc.SetDelivery(sealer); err != nil {
			return nil, err
		}
	}
	for i := range grants {
		if err := r.answerKey(i, &grants[i], sealer); err != nil {
			return nil, err
		}
	}
	return r.finish(signaling)
}

// Relay is [Request.Answer] with content keys that another key provider has
// encrypted to the recipients of the request, in the document from. secrets
// has its index of each content key.
func (r *Request) Relay(grants []Grant, signaling []drm.Signaling, from *cpix.Document, secrets []int) ([]byte, error) {
	if !r.Encrypted() || len(secrets) != len(r.Keys) {
		return nil, errors.New("answer does not fit the request")
	}
	if err := r.begin(grants, signaling); err != nil {
		return nil, err
	}
	if err := r.doc.CopyDelivery(from); err != nil {
		return nil, err
	}
	for i := range grants {
		g := &grants[i]
		r.addIV(i, g)
		if err := r.doc.CopySecret(i, &from.ContentKeys[secrets[i]].Secret, r.hdcp(&r.Keys[i], g)); err != nil {
			return nil, err
		}
	}
	return r.finish(signaling)
}

// begin makes the edits that are the same for all answers.
func (r *Request) begin(grants []Grant, signaling []drm.Signaling) error {
	if len(grants) != len(r.Keys) || len(signaling) != len(r.Systems) {
		return errors.New("answer does not fit the request")
	}
	d := &r.doc
	d.Edit(r.editCount())
	if r.Profile != V10 {
		d.RemoveID()
		d.RemoveV1()
	}
	d.DeclarePSKC()
	d.RemoveSignatures()
	r.overrideKIDs(grants)
	return nil
}

func (r *Request) finish(signaling []drm.Signaling) ([]byte, error) {
	for i := range signaling {
		r.answerSystem(i, &signaling[i])
	}
	var err error
	r.answer, err = r.doc.AppendTo(r.answer[:0])
	return r.answer, err
}

// Document returns the document of the request, to be read and not changed.
func (r *Request) Document() *cpix.Document { return &r.doc }

func (r *Request) addIV(i int, g *Grant) {
	if r.Keys[i].AddIV && !g.NoIV {
		r.doc.SetExplicitIV(i, g.IV)
	}
}

// overrideKIDs changes the key IDs everywhere at once when any was answered
// otherwise than asked (SX-KID-02).
func (r *Request) overrideKIDs(grants []Grant) {
	asked := 0
	for asked < len(grants) && grants[asked].KID == r.Keys[asked].KID {
		asked++
	}
	if asked == len(grants) {
		return
	}
	kids := make([]contentkey.KID, len(grants))
	for i := range grants {
		kids[i] = grants[i].KID
	}
	r.doc.SetKIDs(kids)
}

func (r *Request) answerKey(i int, g *Grant, sealer *cpix.Sealer) error {
	r.addIV(i, g)
	hdcp := r.hdcp(&r.Keys[i], g)
	if sealer != nil {
		return r.doc.SetSealed(i, &g.Value, sealer, hdcp)
	}
	r.doc.SetValue(i, &g.Value, hdcp)
	return nil
}

// hdcp finds the output protection of the tracks that a key is for; only
// SPEKE 2.1 can say it (S21-PAY-72).
func (r *Request) hdcp(k *Key, g *Grant) *cpix.HDCP {
	switch {
	case r.Profile != V21:
		return nil
	case g.HDCPLevel != "":
		return &cpix.HDCP{Level: g.HDCPLevel}
	case len(r.output.HDCP) == 0:
		return nil
	}
	for _, u := range k.Uses {
		if h, ok := r.output.HDCP[u.Track]; ok {
			return &h
		}
	}
	return nil
}

// editCount is about how many edits an answer needs.
func (r *Request) editCount() int {
	n := 4 + len(r.doc.DeliveryData) + 2*len(r.Keys)
	for i := range r.doc.DRMSystems {
		n += len(r.doc.DRMSystems[i].Signals)
	}
	return n
}

// The tags of the two playlists (S2-HLS-02).
const (
	mediaTag  = "#EXT-X-KEY:"
	masterTag = "#EXT-X-SESSION-KEY:"
)

// answerSystem fills the placeholders of one DRMSystem or takes them out.
func (r *Request) answerSystem(i int, s *drm.Signaling) {
	e, sys := &r.doc.DRMSystems[i], &r.Systems[i]
	for j := range e.Signals {
		sig := &e.Signals[j]
		if r.Profile != V10 && v1Only(sig.Kind) {
			continue // gone with RemoveV1
		}
		value := signalValue(sig.Kind, s)
		if value == nil {
			r.doc.Remove(sig)
			continue
		}
		tag := ""
		if sig.Kind == cpix.HLSSignalingData {
			tag = mediaTag
			if sig.Playlist == "master" || sig.Playlist == "multiVariant" {
				tag = masterTag
			}
		}
		r.doc.Fill(sig, tag, value)
		if sig.Kind == cpix.ContentProtectionData && r.Profile == V21 {
			if robustness := r.output.Robustness[sys.ID()]; robustness != "" {
				r.doc.SetRobustness(sig, robustness)
			}
		}
	}
	if r.Profile == V21 {
		if cpc := r.output.AllowedCPC[sys.ID()]; cpc != "" {
			r.doc.SetAllowedCPC(i, cpc)
		}
	}
}

// signalValue returns what fills an element, nil for nothing. For HLS it is
// the attribute list, which is the same in both playlists (S2-HLS-03).
func signalValue(kind cpix.Kind, s *drm.Signaling) []byte {
	switch kind {
	case cpix.PSSH:
		return s.PSSH
	case cpix.ContentProtectionData:
		return s.ContentProtection
	case cpix.HLSSignalingData:
		return s.HLS
	case cpix.SmoothProtectionHeader, cpix.ProtectionHeader:
		return s.Smooth
	case cpix.URIExtXKey:
		return s.KeyURI
	case cpix.KeyFormat:
		return s.KeyFormat
	case cpix.KeyFormatVersions:
		return s.KeyFormatVersions
	}
	return nil
}

// Answer is what a key provider returns for a request.
type Answer struct {
	Body    []byte           // perhaps in the memory of the request, see Request.Reset
	KIDs    []contentkey.KID // of the content keys, in document order
	Created int              // how many of them are new

	// Recipients are the SHA-256 fingerprints, in lower-case hexadecimal, of
	// the certificates that the keys are encrypted to; none for clear keys.
	Recipients []string

	// UserAgent names the key provider that answered, when it is not this one
	// (SX-GW-01).
	UserAgent string

	// Source names another key provider whose keys these are; "" for our own.
	Source string
}
