package vendorsim

import (
	"errors"
	"io"
	"net/http"

	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/speke"
)

// generic is a key provider that keeps to SPEKE 1.0, 2.0 and 2.1, content key
// encryption included: one path, Basic, the specification's own errors.
type generic struct {
	*Server
	user, password string
	policy         speke.Policy
}

const (
	genericPath      = "/speke/copyProtection"
	genericHeartbeat = "/speke/heartbeat"
	genericAgent     = "generic key provider (simulated)"
)

func newGeneric(s *Server) (vendor, error) {
	g := &generic{Server: s, user: "gateway", password: s.secret("password")}
	var err error
	g.policy.V1, g.policy.V2, err = systemsOf(drm.Settings{})
	return g, err
}

func (g *generic) upstream(up *Upstream) {
	up.V1.Path, up.Auth, up.User, up.Secret = genericPath, Basic, g.user, g.password
}

func (g *generic) routes(mux *http.ServeMux) {
	mux.HandleFunc("POST "+genericPath, g.handle)
	mux.HandleFunc("GET "+genericHeartbeat, func(w http.ResponseWriter, r *http.Request) {
		speke.AnswerHeader(w.Header(), r.Header, genericAgent)
	})
}

func (g *generic) refuse(w http.ResponseWriter, status int, text string) {
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="speke"`)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, text) //nolint:errcheck // an answer in the making takes all
}

func (g *generic) handle(w http.ResponseWriter, r *http.Request) {
	speke.AnswerHeader(w.Header(), r.Header, genericAgent)
	if !hasBasic(r, g.user, g.password) {
		g.refuse(w, http.StatusUnauthorized, "unauthorized")
		return
	}
	body, err := g.answer(r)
	if e, ok := errors.AsType[*speke.Error](err); ok {
		g.refuse(w, e.Status, e.Text)
		return
	}
	if err != nil {
		g.refuse(w, http.StatusInternalServerError, "internal error")
		return
	}
	w.Header().Set("Content-Type", speke.ContentType)
	w.Write(body) //nolint:errcheck // an answer in the making takes all
}

func (g *generic) answer(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	req, err := speke.ParseRequest(r.Header, body, &g.policy)
	if err != nil {
		return nil, err
	}
	var sealer *cpix.Sealer
	if certs, err := req.Recipients(); err != nil {
		return nil, err
	} else if certs != nil {
		if sealer, err = cpix.NewSealer(g.o.Random, certs); err != nil {
			return nil, err
		}
	}
	grants := make([]speke.Grant, len(req.Keys))
	for i := range grants {
		grants[i].KID = req.Keys[i].KID
		if grants[i].Value, grants[i].IV, err = g.key(req.Keys[i].KID); err != nil {
			return nil, err
		}
	}
	signaling := make([]drm.Signaling, len(req.Systems))
	for i := range signaling {
		s := &req.Systems[i]
		k := &grants[s.Key]
		track := &drm.Track{ContentID: req.ContentID, KID: k.KID, Key: k.Value, IV: req.TrackIV(s.Key, k.IV), Scheme: req.Scheme}
		if signaling[i], err = s.Signal(track, s.Want); err != nil {
			return nil, err
		}
	}
	return req.Answer(grants, signaling, sealer)
}
