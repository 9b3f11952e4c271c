package auth

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"spekeasy/internal/tenant"
)

// tokens are secrets in the URL, in a query parameter or in the path. A URL
// with such a token must never be logged.
type tokens struct {
	parameters []string
	tokens     secrets
}

// PathToken is the name of the wildcard, in a route's pattern, that holds a
// token.
const PathToken = "token"

func newTokens() *tokens { return &tokens{tokens: make(secrets)} }

func (*tokens) takes(c *tenant.Credential) bool { return c.Token != nil }

func (t *tokens) empty() bool { return len(t.tokens) == 0 }

func (t *tokens) add(g *grant, c *tenant.Credential) error {
	name := tenant.DefaultTokenParameter
	if c.Token.Parameter != "" {
		name = c.Token.Parameter
	}
	if !slices.Contains(t.parameters, name) {
		t.parameters = append(t.parameters, name)
	}
	return t.tokens.add(g, c.Token.Token, c.Token.SHA256)
}

func (t *tokens) authenticate(r *http.Request, _ []byte) (*grant, error) {
	refused := errAbsent
	try := func(token string) *grant {
		if token == "" {
			return nil
		}
		// Tokens of vendors are base64 and get pasted into URLs as they are,
		// where "+" means a blank.
		if g := t.tokens.find(strings.ReplaceAll(token, " ", "+")); g != nil {
			return g
		}
		refused = &refusal{kind: "token in the URL", why: "unknown token"}
		return nil
	}
	if g := try(r.PathValue(PathToken)); g != nil {
		return g, nil
	}
	if r.URL.RawQuery == "" {
		return nil, refused
	}
	query, _ := url.ParseQuery(r.URL.RawQuery) // what is malformed is no token of ours
	for _, name := range t.parameters {
		if g := try(query.Get(name)); g != nil {
			return g, nil
		}
	}
	return nil, refused
}

func (t *tokens) challenge(error) []string { return []string{`Token realm="spekeasy"`} }
