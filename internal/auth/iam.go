package auth

import (
	"context"
	"net/http"
	"path"
	"strings"

	"spekeasy/internal/tenant"
)

// iam is AWS IAM as Amazon API Gateway reports it: the gateway has checked the
// signature (SX-AUTH-01) and says which principal it was. Only trusted code
// can tell us so, with [WithIAM]; no header does.
type iam struct{ entries []iamEntry }

type iamEntry struct {
	grant    *grant
	patterns []string
}

type iamKey struct{}

// WithIAM returns a context for a request whose sender an API gateway found
// to be the principal with this ARN.
func WithIAM(ctx context.Context, arn string) context.Context {
	return context.WithValue(ctx, iamKey{}, arn)
}

func (*iam) takes(c *tenant.Credential) bool { return c.IAM != nil }

func (i *iam) empty() bool { return len(i.entries) == 0 }

func (i *iam) add(g *grant, c *tenant.Credential) error {
	e := iamEntry{grant: g}
	for _, arn := range c.IAM.ARNs {
		e.patterns = append(e.patterns, arn)
		// Who assumes a role has the ARN of a session, without the role's path.
		if head, role, ok := strings.Cut(arn, ":role/"); ok {
			head = strings.Replace(head, ":iam:", ":sts:", 1)
			e.patterns = append(e.patterns, head+":assumed-role/"+role[strings.LastIndexByte(role, '/')+1:]+"/*")
		}
	}
	i.entries = append(i.entries, e)
	return nil
}

func (i *iam) authenticate(r *http.Request, _ []byte) (*grant, error) {
	arn, ok := r.Context().Value(iamKey{}).(string)
	if !ok {
		return nil, errAbsent
	}
	var found *grant
	for j := range i.entries {
		e := &i.entries[j]
		for _, p := range e.patterns {
			if ok, _ := path.Match(p, arn); !ok { // "*" ends at a slash
				continue
			}
			if found != nil && found.Tenant != e.grant.Tenant {
				return nil, &refusal{kind: "iam", why: "the principal fits " + found.name() + " and " + e.grant.name()}
			}
			found = e.grant
		}
	}
	if found == nil {
		return nil, &refusal{kind: "iam", why: "the principal is on no list"}
	}
	return found, nil
}

func (i *iam) challenge(error) []string { return []string{sigv4Scheme + ` realm="spekeasy"`} }
