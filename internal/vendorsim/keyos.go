package vendorsim

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"net/http"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/internal/kidrule"
)

// keyOS is BuyDRM KeyOS.
//
// Public: a resource copyProtection; SPEKE 1.0 with clear keys by the header
// keyos-userkey; SPEKE 2, and 1.0 with content key encryption, by no header
// at all but the certificate in the request, which the vendor must know; the
// header kid-override with uuidv5 or keyos-uuidv5.
//
// Ours: both paths, the inputs of the two overrides, the form of errors
// (the license service's), and SPEKE 2.1 on the path of 2.0.
type keyOS struct {
	*Server
	userKey string
	v1, v2  []drm.System
}

const (
	keyOSV1 = "/copyProtection"
	keyOSV2 = "/v2/copyProtection"
)

func newKeyOS(s *Server) (vendor, error) {
	k := &keyOS{Server: s, userKey: s.secret("user key")}
	var err error
	k.v1, k.v2, err = systemsOf(drm.Settings{Widevine: drm.Widevine{Provider: "buydrmkeyos"}})
	return k, err
}

func (k *keyOS) upstream(up *Upstream) {
	up.V1.Path, up.Auth, up.Secret = keyOSV1, UserKey, k.userKey
}

func (k *keyOS) routes(mux *http.ServeMux) {
	mux.HandleFunc("POST "+keyOSV1, k.handler(true))
	mux.HandleFunc("POST "+keyOSV2, k.handler(false))
}

func (k *keyOS) refuse(w http.ResponseWriter, status int, text string) {
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `KeyOS realm="MultiKey"`)
	}
	writeJSON(w, status, map[string]any{"errorcode": status, "errormsg": text, "errorid": k.secret("error")[:8]})
}

func (k *keyOS) handler(v1 bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := k.answer(r, v1)
		if err != nil {
			k.fail(w, err)
			return
		}
		answerHeader(w, r, "KeyOS MultiKey (simulated)")
		w.Write(body) //nolint:errcheck // an answer in the making takes all
	}
}

func (k *keyOS) answer(r *http.Request, v1 bool) ([]byte, error) {
	o, err := readOrder(r)
	if err != nil {
		return nil, err
	}
	if v1 != o.v1 {
		return nil, refuse(http.StatusBadRequest, "Unsupported SPEKE version")
	}
	sealer, err := k.admit(r, o)
	if err != nil {
		return nil, err
	}
	if err := k.override(r.Header.Get("kid-override"), o); err != nil {
		return nil, err
	}
	if err := k.fill(o); err != nil {
		return nil, err
	}
	if v1 {
		return o.echo(k.v1, sealer)
	}
	return o.echo(k.v2, sealer)
}

// admit knows the customer, by the header when the keys are asked for in
// clear and by the certificates when not. Clear keys are for SPEKE 1.0 only.
func (k *keyOS) admit(r *http.Request, o *order) (*cpix.Sealer, error) {
	if len(o.doc.DeliveryData) == 0 {
		switch {
		case !o.v1:
			return nil, refuse(http.StatusForbidden, "A registered certificate is required")
		case !same(r.Header.Get("keyos-userkey"), k.userKey):
			return nil, refuse(http.StatusForbidden, "Invalid user key")
		}
		return nil, nil
	}
	certs, err := o.recipients()
	if err != nil {
		return nil, err
	}
	for _, cert := range certs {
		if !k.registered(cert) {
			return nil, refuse(http.StatusForbidden, "The certificate is not registered")
		}
	}
	return cpix.NewSealer(k.o.Random, certs)
}

func (k *keyOS) registered(cert *x509.Certificate) bool {
	for _, c := range k.o.Registered {
		if bytes.Equal(c.Raw, cert.Raw) {
			return true
		}
	}
	return k.o.Registered == nil
}

// override gives the keys other key IDs (SX-KID-01): uuidv5 by what they are
// for, keyos-uuidv5 by the key ID of the request too.
func (k *keyOS) override(rule string, o *order) error {
	switch rule {
	case "":
		return nil
	case "uuidv5", "keyos-uuidv5":
	default:
		return refuse(http.StatusBadRequest, "Unknown kid-override")
	}
	for i := range o.keys {
		key := &o.keys[i]
		period := contentkey.Period{ID: key.period.ID, Index: key.period.Index, Start: key.period.Start}
		kid := kidrule.UUIDv5.KID(&kidrule.Input{ContentID: o.contentID, Period: period.Name(), Track: key.track})
		if rule == "keyos-uuidv5" {
			sum := sha256.Sum256(append(kid[:], key.requested[:]...))
			kid = contentkey.KID(sum[:16])
			kid[6], kid[8] = kid[6]&0x0f|0x50, kid[8]&0x3f|0x80
		}
		key.kid = kid
	}
	return nil
}
