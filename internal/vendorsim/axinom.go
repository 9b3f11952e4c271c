package vendorsim

import (
	"net/http"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/kidrule"
)

// axinom is Axinom's Key Service.
//
// Public: Basic with tenant ID and management key, both GUIDs; /api/Speke and
// /api/SpekeV2; every failure with the header X-AxDRM-ErrorMessage; keys
// follow from the key ID, with or without usage rules, intendedTrackType and
// explicitIV; overrideKeyIds=true; FairPlay's key URI has key ID and IV.
//
// Ours: the order of the inputs of the key ID override (that of the KID rule
// sha256-xor), the refusal of content key encryption and of SPEKE 2.1, and
// the statuses of failures other than 401.
type axinom struct {
	*Server
	tenant, key string
	v1, v2      []drm.System
}

const (
	axinomV1 = "/api/Speke"
	axinomV2 = "/api/SpekeV2"
)

func newAxinom(s *Server) (vendor, error) {
	uri, err := drm.ParseTemplate("kid-iv")
	if err != nil {
		return nil, err
	}
	a := &axinom{Server: s, tenant: s.secret("tenant"), key: s.secret("management key")}
	a.v1, a.v2, err = systemsOf(drm.Settings{FairPlay: drm.FairPlay{URI: uri}})
	return a, err
}

func (a *axinom) upstream(up *Upstream) {
	up.V1.Path, up.Auth, up.User, up.Secret = axinomV1, Basic, a.tenant, a.key
}

func (a *axinom) routes(mux *http.ServeMux) {
	mux.HandleFunc("POST "+axinomV1, a.handler(true))
	mux.HandleFunc("POST "+axinomV2, a.handler(false))
}

func (a *axinom) refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("X-AxDRM-ErrorMessage", text)
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="Axinom DRM"`)
	}
	w.WriteHeader(status)
}

func (a *axinom) handler(v1 bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !hasBasic(r, a.tenant, a.key) {
			a.refuse(w, http.StatusUnauthorized, "Authorization failed. Check tenant ID and management key.")
			return
		}
		body, err := a.answer(r, v1)
		if err != nil {
			a.fail(w, err)
			return
		}
		answerHeader(w, r, "Axinom DRM (simulated)")
		w.Write(body) //nolint:errcheck // an answer in the making takes all
	}
}

func (a *axinom) answer(r *http.Request, v1 bool) ([]byte, error) {
	o, err := readOrder(r)
	if err != nil {
		return nil, err
	}
	switch {
	case v1 && !o.v1:
		return nil, refuse(http.StatusBadRequest, "SPEKE %s is not supported by this API.", o.version)
	case !v1 && o.version != "2.0":
		return nil, refuse(http.StatusBadRequest, "The header X-Speke-Version must be 2.0.")
	case len(o.doc.DeliveryData) > 0:
		return nil, refuse(http.StatusBadRequest, "Content key encryption is not supported.")
	}
	if strings.EqualFold(r.URL.Query().Get("overrideKeyIds"), "true") {
		a.override(o)
	}
	if err := a.fill(o); err != nil {
		return nil, err
	}
	systems := a.v2
	if v1 {
		systems = a.v1
	}
	return o.echo(systems, nil)
}

// override gives the keys other key IDs (SX-KID-01).
func (a *axinom) override(o *order) {
	for i := range o.keys {
		k := &o.keys[i]
		period := contentkey.Period{ID: k.period.ID, Index: k.period.Index, Start: k.period.Start}
		k.kid = kidrule.SHA256XOR.KID(&kidrule.Input{
			Tenant: a.tenant, ContentID: o.contentID, Requested: k.requested, V1: o.v1,
			Index: i, Period: period.Name(), Track: k.track, Scheme: k.scheme,
		})
	}
}
