package vendorsim

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/speke"
)

// order is a key request as the simulators read it: more kindly than package
// speke does, as vendors do. What a vendor insists on is in its file.
type order struct {
	doc       *cpix.Document
	v1        bool
	version   string // X-Speke-Version; "1.0" without
	contentID string
	keys      []orderedKey
}

// orderedKey is one content key of an order.
type orderedKey struct {
	requested, kid contentkey.KID // kid is the key ID of the answer
	value          contentkey.Value
	iv             contentkey.IV
	hasIV          bool // the request brought one
	scheme         contentkey.Scheme
	track          string // intendedTrackType of its first usage rule
	period         cpix.Period
}

// refusal is an error that a vendor words in its own way.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// fail answers an error as the vendor does.
func (s *Server) fail(w http.ResponseWriter, err error) {
	var r *refusal
	if errors.As(err, &r) {
		s.vendor.refuse(w, r.status, r.text)
		return
	}
	s.vendor.refuse(w, http.StatusInternalServerError, "internal error")
}

// readOrder reads a key request.
func readOrder(r *http.Request) (*order, error) {
	switch t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t {
	case "application/xml", "text/xml":
	default:
		return nil, refuse(http.StatusUnsupportedMediaType, "content type %q is not XML", t)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	doc, err := cpix.Parse(body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body is not a CPIX document")
	}
	o := &order{doc: doc, version: r.Header.Get(speke.HeaderVersion), contentID: doc.ContentID}
	if o.version == "" {
		o.version = speke.V10.String()
	}
	o.v1 = o.version == speke.V10.String()
	if o.contentID == "" {
		o.contentID = doc.ID
	}
	if o.contentID == "" || len(doc.ContentKeys) == 0 {
		return nil, refuse(http.StatusBadRequest, "content ID and content keys are required")
	}
	return o, o.readKeys()
}

func (o *order) readKeys() error {
	o.keys = make([]orderedKey, len(o.doc.ContentKeys))
	fallback := o.usualScheme()
	for i := range o.doc.ContentKeys {
		from, k := &o.doc.ContentKeys[i], &o.keys[i]
		var err error
		if k.requested, err = contentkey.ParseKID(from.KID); err != nil {
			return refuse(http.StatusBadRequest, "ContentKey@kid is not a UUID")
		}
		k.kid, k.scheme = k.requested, fallback
		if from.Scheme != "" {
			if k.scheme, err = contentkey.ParseScheme(from.Scheme); err != nil {
				return refuse(http.StatusBadRequest, "unsupported commonEncryptionScheme")
			}
		}
		if from.ExplicitIV != "" {
			if k.iv, err = contentkey.ParseIV(from.ExplicitIV); err != nil {
				return refuse(http.StatusBadRequest, "explicitIV is not the base64 of 16 bytes")
			}
			k.hasIV = true
		}
		o.readUse(k)
	}
	return nil
}

// readUse finds track and period of a key by its first usage rule. Without a
// filter for periods, a lone period is everybody's.
func (o *order) readUse(k *orderedKey) {
	if len(o.doc.Periods) == 1 {
		k.period = o.doc.Periods[0]
	}
	for i := range o.doc.UsageRules {
		rule := &o.doc.UsageRules[i]
		if kid, err := contentkey.ParseKID(rule.KID); err != nil || kid != k.requested {
			continue
		}
		k.track = rule.IntendedTrackType
		for j := range rule.Filters {
			if rule.Filters[j].Kind != cpix.KeyPeriodFilter {
				continue
			}
			id, _ := rule.Filters[j].Attr("periodId")
			for _, p := range o.doc.Periods {
				if p.ID == id {
					k.period = p
				}
			}
		}
		return
	}
}

var (
	fairPlay = drm.FairPlay{}.ID().String()
	hlsAES   = drm.HLSAES128V1{}.ID().String()
)

// usualScheme is the scheme of requests that name none, by the systems that
// they ask for.
func (o *order) usualScheme() contentkey.Scheme {
	scheme := contentkey.Cenc
	for i := range o.doc.DRMSystems {
		switch id, _ := drm.ParseSystemID(o.doc.DRMSystems[i].SystemID); id.String() {
		case fairPlay:
			return contentkey.Cbcs
		case hlsAES:
			scheme = contentkey.Cbc1
		}
	}
	return scheme
}

// fill derives the content keys, and the IVs that the request did not bring.
func (s *Server) fill(o *order) error {
	for i := range o.keys {
		k := &o.keys[i]
		value, iv, err := s.key(k.kid)
		if err != nil {
			return err
		}
		k.value = value
		if !k.hasIV {
			k.iv = iv
		}
	}
	return nil
}

// recipients returns the certificates that content keys are to be encrypted
// to.
func (o *order) recipients() ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for i := range o.doc.DeliveryData {
		texts := o.doc.DeliveryData[i].Certificates
		if len(texts) == 0 {
			return nil, refuse(http.StatusBadRequest, "DeliveryData without a certificate")
		}
		cert, err := cpix.ParseCertificate(texts[0]) // the rest is its chain
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "the certificate cannot be used")
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// signal has the systems on offer signal DRMSystem i.
func (o *order) signal(i int, systems []drm.System) (drm.Signaling, error) {
	e := &o.doc.DRMSystems[i]
	kid, err := contentkey.ParseKID(e.KID)
	if err != nil {
		return drm.Signaling{}, refuse(http.StatusBadRequest, "DRMSystem@kid is not a UUID")
	}
	id, _ := drm.ParseSystemID(e.SystemID)
	for _, sys := range systems {
		if sys.ID() != id {
			continue
		}
		for j := range o.keys {
			if k := &o.keys[j]; k.requested == kid {
				got, err := sys.Signal(&drm.Track{ContentID: o.contentID, KID: k.kid, Key: k.value, IV: k.iv, Scheme: k.scheme}, sys.Fields())
				if err != nil {
					return got, refuse(http.StatusBadRequest, "%s cannot be signaled for %s", sys.Name(), k.scheme)
				}
				return got, nil
			}
		}
		return drm.Signaling{}, refuse(http.StatusBadRequest, "DRMSystem for a key ID without ContentKey")
	}
	return drm.Signaling{}, refuse(http.StatusBadRequest, "unsupported DRM system %.40q", e.SystemID)
}

// echo answers by filling the request's own placeholders and leaving all else
// as it came. With a sealer the content keys are encrypted.
func (o *order) echo(systems []drm.System, sealer *cpix.Sealer) ([]byte, error) {
	d := o.doc
	d.DeclarePSKC()
	d.RemoveSignatures()
	if sealer != nil {
		if err := d.SetDelivery(sealer); err != nil {
			return nil, err
		}
	}
	kids := make([]contentkey.KID, len(o.keys))
	for i := range o.keys {
		k := &o.keys[i]
		kids[i] = k.kid
		if !k.hasIV && (k.scheme == contentkey.Cbcs || k.scheme == contentkey.Cbc1) {
			d.SetExplicitIV(i, k.iv)
		}
		if sealer == nil {
			d.SetValue(i, &k.value, nil)
		} else if err := d.SetSealed(i, &k.value, sealer, nil); err != nil {
			return nil, err
		}
	}
	d.SetKIDs(kids)
	for i := range d.DRMSystems {
		got, err := o.signal(i, systems)
		if err != nil {
			return nil, err
		}
		for j := range d.DRMSystems[i].Signals {
			sig := &d.DRMSystems[i].Signals[j]
			tag, value := signalValue(sig, &got)
			if value == nil {
				d.Remove(sig)
				continue
			}
			d.Fill(sig, tag, value)
		}
	}
	return d.Bytes()
}

// signalValue is what fills a placeholder: the tag of the playlist, for HLS,
// and the value; nil for nothing.
func signalValue(sig *cpix.Signal, from *drm.Signaling) (tag string, value []byte) {
	switch sig.Kind {
	case cpix.PSSH:
		value = from.PSSH
	case cpix.ContentProtectionData:
		value = from.ContentProtection
	case cpix.HLSSignalingData:
		if tag = "#EXT-X-KEY:"; sig.Playlist == "master" {
			tag = "#EXT-X-SESSION-KEY:"
		}
		value = from.HLS
	case cpix.SmoothProtectionHeader, cpix.ProtectionHeader:
		value = from.Smooth
	case cpix.URIExtXKey:
		value = from.KeyURI
	case cpix.KeyFormat:
		value = from.KeyFormat
	case cpix.KeyFormatVersions:
		value = from.KeyFormatVersions
	}
	return tag, value
}

// answerHeader is what every right answer carries.
func answerHeader(w http.ResponseWriter, r *http.Request, agent string) {
	w.Header().Set("Content-Type", speke.ContentType)
	speke.AnswerHeader(w.Header(), r.Header, agent)
}

// systemsOf makes the systems that a vendor offers, for both generations.
func systemsOf(settings drm.Settings) (v1, v2 []drm.System, err error) {
	if v1, err = drm.V1(settings); err != nil {
		return nil, nil, err
	}
	v2, err = drm.V2(settings)
	return v1, v2, err
}

// bigThree leaves Widevine, PlayReady and FairPlay.
func bigThree(systems []drm.System) []drm.System {
	var out []drm.System
	for _, s := range systems {
		switch s.ID() {
		case drm.Widevine{}.ID(), drm.PlayReady{}.ID(), drm.FairPlay{}.ID():
			out = append(out, s)
		}
	}
	return out
}
