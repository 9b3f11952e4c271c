package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"spekeasy/internal/tenant"
)

// sigv4 is AWS Signature Version 4 for service execute-api, as AWS's
// encryptors sign for an API gateway, checked by ourselves with access keys
// that we issue (SX-AUTH-01, -09). The whole body is covered; signatures in
// the URL and signatures of a body in chunks are refused.
type sigv4 struct {
	keys map[string]*accessKey
	now  func() time.Time
}

type accessKey struct {
	grant   *grant
	secret  tenant.Secret // the scheme needs it back
	regions []string
}

const (
	sigv4Scheme  = "AWS4-HMAC-SHA256"
	sigv4Service = "execute-api"
	sigv4Time    = "20060102T150405Z"
	sigv4Skew    = 5 * time.Minute
)

func newSigV4(now func() time.Time) *sigv4 {
	return &sigv4{keys: make(map[string]*accessKey), now: now}
}

func (*sigv4) takes(c *tenant.Credential) bool { return c.SigV4 != nil }

func (s *sigv4) empty() bool { return len(s.keys) == 0 }

func (s *sigv4) add(g *grant, c *tenant.Credential) error {
	k := c.SigV4
	return claim(s.keys, k.AccessKeyID, &accessKey{grant: g, secret: k.SecretAccessKey, regions: k.Regions})
}

func (k *accessKey) name() string { return k.grant.name() }

func (s *sigv4) authenticate(r *http.Request, body []byte) (*grant, error) {
	rest, ok := scheme(r, sigv4Scheme)
	if !ok {
		if strings.Contains(r.URL.RawQuery, "X-Amz-Signature=") {
			return nil, &refusal{kind: "sigv4", why: "a signature in the URL is not accepted"}
		}
		return nil, errAbsent
	}
	a, err := parseSigV4(rest)
	if err != nil {
		return nil, &refusal{kind: "sigv4", why: err.Error()}
	}
	key, name := s.keys[a.accessKey], ""
	if key != nil {
		name = key.name()
	} else {
		key = new(accessKey) // an unknown key costs the same
	}
	if err := s.check(r, a, key, body); err != nil {
		return nil, &refusal{kind: "sigv4", name: name, claim: a.accessKey, why: err.Error()}
	}
	if key.grant == nil {
		return nil, &refusal{kind: "sigv4", claim: a.accessKey, why: "unknown access key"}
	}
	return key.grant, nil
}

func (s *sigv4) challenge(error) []string { return []string{sigv4Scheme + ` realm="spekeasy"`} }

// signature is the Authorization header of SigV4.
type signature struct {
	accessKey, date, region, service string // the credential scope
	signed                           []string
	value                            []byte
}

// parseSigV4 reads what follows the scheme.
func parseSigV4(text string) (*signature, error) {
	errMalformed := errors.New("malformed Authorization")
	param := make(map[string]string, 3)
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := param[name]; !ok || twice {
			return nil, errMalformed
		}
		param[name] = value
	}
	scope := strings.Split(param["Credential"], "/")
	if len(param) != 3 || len(scope) != 5 || scope[4] != "aws4_request" {
		return nil, errMalformed
	}
	a := &signature{accessKey: scope[0], date: scope[1], region: scope[2], service: scope[3]}
	a.signed = strings.Split(param["SignedHeaders"], ";")
	for i, name := range a.signed {
		if name == "" || name != strings.ToLower(name) || i > 0 && name <= a.signed[i-1] {
			return nil, errors.New("SignedHeaders are not in order and lower case")
		}
	}
	var err error
	if a.value, err = hex.DecodeString(param["Signature"]); err != nil || len(a.value) != sha256.Size {
		return nil, errMalformed
	}
	return a, nil
}

// check holds everything about a signature. The error does not say what was
// sent.
func (s *sigv4) check(r *http.Request, a *signature, key *accessKey, body []byte) error {
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse(sigv4Time, date)
	payload := sha256.Sum256(body)
	hash := hex.EncodeToString(payload[:])
	told := r.Header.Get("X-Amz-Content-Sha256")
	switch {
	case err != nil:
		return errors.New("no X-Amz-Date")
	case at.Sub(s.now()).Abs() > sigv4Skew:
		return errors.New("signed more than five minutes before or after now")
	case a.date != date[:8]:
		return errors.New("the scope has another date")
	case a.service != sigv4Service:
		return errors.New("the scope has another service than " + sigv4Service)
	case told != "" && told != hash:
		return errors.New("X-Amz-Content-Sha256 is not the digest of the body")
	}
	headers, err := a.canonicalHeaders(r)
	if err != nil {
		return err
	}
	query, err := canonicalQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	request := sha256.Sum256([]byte(strings.Join([]string{
		r.Method, canonicalPath(r.URL), query, headers, strings.Join(a.signed, ";"), hash,
	}, "\n")))
	scope := strings.Join([]string{a.date, a.region, a.service, "aws4_request"}, "/")
	toSign := strings.Join([]string{sigv4Scheme, date, scope, hex.EncodeToString(request[:])}, "\n")
	derived := []byte("AWS4" + string(key.secret))
	for _, part := range []string{a.date, a.region, a.service, "aws4_request", toSign} {
		h := hmac.New(sha256.New, derived)
		h.Write([]byte(part))
		derived = h.Sum(nil)
	}
	if !hmac.Equal(derived, a.value) {
		return errors.New("the signature does not match")
	}
	if !slices.Contains(key.regions, a.region) { // last, since an unknown key has none
		return errors.New("the scope has a region that is not allowed")
	}
	return nil
}

// canonicalHeaders are the signed headers as they came. Host, date and all of
// AWS's own headers must be among them.
func (a *signature) canonicalHeaders(r *http.Request) (string, error) {
	for _, need := range []string{"host", "x-amz-date"} {
		if !slices.Contains(a.signed, need) {
			return "", errors.New(need + " is not signed")
		}
	}
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") && !slices.Contains(a.signed, name) {
			return "", errors.New("a header x-amz-* is not signed")
		}
	}
	var b strings.Builder
	for _, name := range a.signed {
		values := r.Header.Values(name)
		switch name {
		case "host":
			values = []string{r.Host}
		case "content-length":
			values = []string{strconv.FormatInt(r.ContentLength, 10)}
		}
		if len(values) == 0 {
			return "", errors.New("a signed header is not there")
		}
		b.WriteString(name)
		for i, v := range values {
			b.WriteByte(":,"[min(i, 1)])
			b.WriteString(strings.Join(strings.Fields(v), " "))
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// canonicalPath is the path as it came with each part escaped once more.
func canonicalPath(u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		return "/"
	}
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c == '/' || unreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
		}
	}
	return b.String()
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~", c) >= 0
}

// canonicalQuery is the query in order, escaped in one way.
func canonicalQuery(raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return "", errors.New("the query is malformed")
	}
	for _, values := range q {
		slices.Sort(values)
	}
	return strings.ReplaceAll(q.Encode(), "+", "%20"), nil
}
