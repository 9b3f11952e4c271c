package auth

import (
	"net/http"
	"slices"

	"spekeasy/internal/tenant"
)

// apiKeys are secrets that are the whole value of a header. Vendors differ in
// the header only; a static Authorization, as an API gateway may put it into
// requests, is one more (SX-AUTH-04).
type apiKeys struct {
	headers []keyHeader
}

type keyHeader struct {
	name string // canonical
	keys secrets
}

func newAPIKeys() *apiKeys { return &apiKeys{} }

func (*apiKeys) takes(c *tenant.Credential) bool { return c.APIKey != nil }

func (a *apiKeys) empty() bool { return len(a.headers) == 0 }

func (a *apiKeys) add(g *grant, c *tenant.Credential) error {
	name := tenant.DefaultAPIKeyHeader
	if c.APIKey.Header != "" {
		name = http.CanonicalHeaderKey(c.APIKey.Header)
	}
	i := slices.IndexFunc(a.headers, func(h keyHeader) bool { return h.name == name })
	if i < 0 {
		i = len(a.headers)
		a.headers = append(a.headers, keyHeader{name: name, keys: make(secrets)})
	}
	return a.headers[i].keys.add(g, c.APIKey.Key, c.APIKey.SHA256)
}

func (a *apiKeys) authenticate(r *http.Request, _ []byte) (*grant, error) {
	refused := errAbsent
	for i := range a.headers {
		h := &a.headers[i]
		key := r.Header[h.name]
		if len(key) == 0 || key[0] == "" {
			continue
		}
		if g := h.keys.find(key[0]); g != nil {
			return g, nil
		}
		if h.name != "Authorization" { // then it is for the other methods to judge
			refused = &refusal{kind: "api key in " + h.name, why: "unknown key"}
		}
	}
	return nil, refused
}

// challenge has a name that no registry knows; it tells people what is
// missing.
func (a *apiKeys) challenge(error) []string { return []string{`ApiKey realm="spekeasy"`} }
