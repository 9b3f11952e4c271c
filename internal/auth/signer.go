package auth

import (
	"net/http"
	"strings"

	"spekeasy/internal/tenant"
	"spekeasy/internal/widevine"
)

// signers are the signers of Widevine's get-content-key protocol. Their
// signature is part of the body of requests to paths of the protocol, and
// covers what is asked for but not the path: whoever answers must hold the
// path's provider against the principal. A request can be sent again, since
// nothing in it is fresh (D-504).
type signers struct{ byName map[string]*signer }

type signer struct {
	grant *grant
	key   widevine.Verifier
}

func (s *signer) name() string { return s.grant.name() }

// WidevinePath begins the paths on which requests are signed.
const WidevinePath = "/cenc/"

func newSigners() *signers { return &signers{byName: make(map[string]*signer)} }

func (*signers) takes(c *tenant.Credential) bool { return c.WidevineSigner != nil }

func (s *signers) empty() bool { return len(s.byName) == 0 }

func (s *signers) add(g *grant, c *tenant.Credential) error {
	key, err := c.WidevineSigner.Verifier()
	if err != nil {
		return err
	}
	return claim(s.byName, c.WidevineSigner.Name, &signer{g, key})
}

func (s *signers) authenticate(r *http.Request, body []byte) (*grant, error) {
	if !strings.HasPrefix(r.URL.Path, WidevinePath) {
		return nil, errAbsent
	}
	e, err := widevine.ParseEnvelope(body)
	if err != nil || e.Signer == "" {
		return nil, errAbsent
	}
	k := s.byName[e.Signer]
	if k == nil {
		return nil, &refusal{kind: "widevine signer", why: "unknown signer"}
	}
	if !k.key.Verify(e.Request, e.Signature) {
		return nil, &refusal{kind: "widevine signer", name: k.name(), why: "the signature does not match"}
	}
	return k.grant, nil
}

// challenge is empty: the protocol has its own word for a refusal.
func (*signers) challenge(error) []string { return nil }
