// Package azurekeyvaulttest is a server that speaks the part of the Key Vault
// and Managed HSM REST API that wrapping keys needs, with the token endpoints
// of Entra ID, of a machine's and of an app's identity. It is for tests; keys
// live in memory.
package azurekeyvaulttest

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/internal/kms/kmstest"
)

// Who the server knows.
const (
	Tenant = "11111111-2222-3333-4444-555555555555"
	Client = "66666666-7777-8888-9999-000000000000"
)

// Server is a vault, a Managed HSM, and what gives out tokens for them.
type Server struct {
	kmstest.Faults
	URL    string
	Host   string // what the vault is called
	Secret string // of the client

	// FederatedToken is what a workload presents; empty for none.
	FederatedToken string

	// Now is the server's clock.
	Now func() time.Time

	// Lifetime is that of tokens.
	Lifetime time.Duration

	mu     sync.Mutex
	keys   map[string]*key
	tokens map[string]time.Time // until when they are good
	denied bool
	issued int
}

type key struct {
	kind     string // RSA, RSA-HSM, EC, oct-HSM
	ops      []string
	versions []*version // the last one is current
}

type version struct {
	id      string
	enabled bool
	rsa     *rsa.PrivateKey
	aes     cipher.AEAD
}

// New starts a server for the vault of the given host name.
func New(t testing.TB, host string) *Server {
	s := &Server{Host: host, Secret: rand.Text(), Now: time.Now, Lifetime: time.Hour, keys: make(map[string]*key), tokens: make(map[string]time.Time)}
	srv := httptest.NewServer(s.Wrap(s))
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// Transport sends requests for the vault and for the sources of tokens to
// this server.
func (s *Server) Transport() kmstest.Hosts {
	return kmstest.Hosts{s.Host: s.URL, "login.microsoftonline.com": s.URL, "169.254.169.254": s.URL}
}

// CreateKey adds a key of a kind with one version. An EC key has no material:
// nothing here can use it.
func (s *Server) CreateKey(t testing.TB, name, kind string) {
	ops := []string{"encrypt", "decrypt", "wrapKey", "unwrapKey", "sign", "verify"}
	if kind == "oct-HSM" {
		ops = ops[:4]
	}
	s.mu.Lock()
	s.keys[name] = &key{kind: kind, ops: ops}
	s.mu.Unlock()
	s.Rotate(t, name)
}

// Rotate gives a key a new version and returns the version's name.
func (s *Server) Rotate(t testing.TB, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := make([]byte, 16)
	rand.Read(id)
	k := s.keys[name]
	v := &version{id: hex.EncodeToString(id), enabled: true}
	switch k.kind {
	case "RSA", "RSA-HSM":
		var err error
		if v.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	case "oct-HSM":
		material := make([]byte, 32)
		rand.Read(material)
		block, err := aes.NewCipher(material)
		if err != nil {
			t.Fatal(err)
		}
		if v.aes, err = cipher.NewGCM(block); err != nil {
			t.Fatal(err)
		}
	}
	k.versions = append(k.versions, v)
	return v.id
}

// Disable disables the current version of a key.
func (s *Server) Disable(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.keys[name].versions
	v[len(v)-1].enabled = false
}

// Delete removes a key.
func (s *Server) Delete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, name)
}

// SetOps limits what a key may be used for.
func (s *Server) SetOps(name string, ops ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name].ops = ops
}

// PublicKey returns the public half of a key's current version.
func (s *Server) PublicKey(name string) *rsa.PublicKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.keys[name].versions
	return &v[len(v)-1].rsa.PublicKey
}

// Deny takes the caller's permissions away.
func (s *Server) Deny() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = true
}

// RevokeTokens makes the server forget the tokens it has issued.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// Issued returns how many tokens were handed out.
func (s *Server) Issued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issued
}

// ServeHTTP answers one request without regard to faults.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch p := r.URL.Path; {
	case p == "/"+Tenant+"/v2.0/.well-known/openid-configuration":
		authority := "https://login.microsoftonline.com/" + Tenant
		answer(w, http.StatusOK, map[string]string{
			"issuer":                 authority + "/v2.0",
			"authorization_endpoint": authority + "/oauth2/v2.0/authorize",
			"token_endpoint":         authority + "/oauth2/v2.0/token",
		})
	case p == "/"+Tenant+"/oauth2/v2.0/token" && r.Method == http.MethodPost:
		s.clientCredentials(w, r)
	case p == "/metadata/identity/oauth2/token" && r.Method == http.MethodGet:
		s.managedIdentity(w, r, "2018-02-01", "Metadata", "true")
	case p == "/msi/token" && r.Method == http.MethodGet:
		s.managedIdentity(w, r, "2019-08-01", "X-IDENTITY-HEADER", s.Secret)
	case strings.HasPrefix(p, "/keys/"):
		s.vault(w, r, strings.Split(strings.TrimPrefix(p, "/keys/"), "/"))
	default:
		fail(w, http.StatusNotFound, "NotFound", "", "No such path")
	}
}

// audience is what tokens for this vault are issued for.
func (s *Server) audience() string {
	_, service, _ := strings.Cut(s.Host, ".")
	return "https://" + service
}

func (s *Server) clientCredentials(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, code, description string) {
		answer(w, status, map[string]any{"error": code, "error_description": description + " Trace ID: 0 Correlation ID: 0"})
	}
	secret, assertion := r.PostFormValue("client_secret"), r.PostFormValue("client_assertion")
	switch {
	case r.PostFormValue("grant_type") != "client_credentials":
		fail(http.StatusBadRequest, "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.")
	case r.PostFormValue("client_id") != Client:
		fail(http.StatusBadRequest, "unauthorized_client", "AADSTS700016: Application with identifier was not found in the directory.")
	case !slices.Contains(strings.Fields(r.PostFormValue("scope")), s.audience()+"/.default"):
		fail(http.StatusBadRequest, "invalid_scope", "AADSTS70011: The provided request must include a 'scope' input parameter.")
	case secret != "" && secret == s.Secret:
		s.issue(w, map[string]any{"expires_in": int(s.Lifetime.Seconds())})
	case assertion != "" && assertion == s.FederatedToken && r.PostFormValue("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
		s.issue(w, map[string]any{"expires_in": int(s.Lifetime.Seconds())})
	case assertion != "":
		fail(http.StatusUnauthorized, "invalid_client", "AADSTS700024: Client assertion is not within its valid time range.")
	default:
		fail(http.StatusUnauthorized, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
	}
}

func (s *Server) managedIdentity(w http.ResponseWriter, r *http.Request, apiVersion, header, value string) {
	q := r.URL.Query()
	if r.Header.Get(header) != value || q.Get("api-version") != apiVersion || q.Get("resource") != s.audience() {
		answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_request", "error_description": "Required metadata header not specified"})
		return
	}
	if id := q.Get("client_id"); id != "" && id != Client {
		answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_request", "error_description": "Identity not found"})
		return
	}
	extra := map[string]any{"expires_on": "1790000000", "resource": q.Get("resource")}
	if header == "Metadata" {
		extra["expires_in"] = "3599" // an app's identity leaves it out
	}
	s.issue(w, extra)
}

func (s *Server) issue(w http.ResponseWriter, extra map[string]any) {
	token := "eyJ0." + rand.Text()
	s.tokens[token] = s.Now().Add(s.Lifetime)
	s.issued++
	extra["access_token"], extra["token_type"] = token, "Bearer"
	answer(w, http.StatusOK, extra)
}

func (s *Server) vault(w http.ResponseWriter, r *http.Request, path []string) {
	if v := r.URL.Query().Get("api-version"); v != "7.4" && v != "7.5" && v != "7.6" && v != "2025-07-01" {
		fail(w, http.StatusBadRequest, "BadParameter", "", "The specified version ("+v+") is not recognized.")
		return
	}
	until, known := s.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	if !known || !s.Now().Before(until) {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/`+Tenant+`", resource="`+s.audience()+`"`)
		fail(w, http.StatusUnauthorized, "Unauthorized", "", "AKV10000: Request is missing a Bearer or PoP token.")
		return
	}
	if s.denied {
		fail(w, http.StatusForbidden, "Forbidden", "ForbiddenByRbac", "Caller is not authorized to perform action on resource.")
		return
	}
	op := "" // the last part of NAME[/VERSION]/OPERATION
	if r.Method == http.MethodPost {
		path, op = path[:len(path)-1], path[len(path)-1]
	}
	if len(path) == 0 || len(path) > 2 {
		fail(w, http.StatusMethodNotAllowed, "BadParameter", "", "Method is not allowed.")
		return
	}
	k := s.keys[path[0]]
	var v *version
	if k != nil {
		v = k.version(path)
	}
	if v == nil {
		fail(w, http.StatusNotFound, "KeyNotFound", "", "A key with (name/id) "+strings.Join(path, "/")+" was not found in this key vault.")
		return
	}
	kid := "https://" + s.Host + "/keys/" + path[0] + "/" + v.id
	switch {
	case r.Method == http.MethodGet:
		answer(w, http.StatusOK, map[string]any{
			"key":        map[string]any{"kid": kid, "kty": k.kind, "key_ops": k.ops},
			"attributes": map[string]any{"enabled": v.enabled, "created": 1700000000},
		})
	case r.Method == http.MethodPost:
		var in operation
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			fail(w, http.StatusBadRequest, "BadParameter", "", "Invalid request body.")
			return
		}
		k.operate(w, v, kid, op, in)
	default:
		fail(w, http.StatusMethodNotAllowed, "BadParameter", "", "Method is not allowed.")
	}
}

// version returns the version that a path names, the current one for none.
func (k *key) version(path []string) *version {
	if len(path) < 2 || path[1] == "" {
		return k.versions[len(k.versions)-1]
	}
	for _, v := range k.versions {
		if v.id == path[1] {
			return v
		}
	}
	return nil
}

// operation is the body of all operations.
type operation struct {
	Alg    string `json:"alg"`
	Value  b64url `json:"value"`
	Digest b64url `json:"digest"`
	IV     b64url `json:"iv"`
	Tag    b64url `json:"tag"`
	AAD    b64url `json:"aad"`
}

type b64url []byte

func (b b64url) MarshalText() ([]byte, error) {
	return []byte(base64.RawURLEncoding.EncodeToString(b)), nil
}

func (b *b64url) UnmarshalText(text []byte) (err error) {
	*b, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(string(text), "="))
	return err
}

func (k *key) operate(w http.ResponseWriter, v *version, kid, op string, in operation) {
	i := slices.IndexFunc(k.ops, func(o string) bool { return strings.EqualFold(o, op) })
	if i < 0 {
		fail(w, http.StatusForbidden, "Forbidden", "", "Operation "+op+" is not permitted on this key.")
		return
	}
	// The public half of a disabled key can still be used.
	if !v.enabled && (op == "unwrapkey" || op == "decrypt" || op == "sign" || v.aes != nil) {
		fail(w, http.StatusForbidden, "Forbidden", "KeyDisabled", "Operation "+op+" is not allowed on a disabled key.")
		return
	}
	result := map[string]any{"kid": kid}
	var err error
	switch {
	case op == "wrapkey" && in.Alg == "RSA-OAEP-256" && v.rsa != nil:
		result["value"], err = b64(rsa.EncryptOAEP(sha256.New(), rand.Reader, &v.rsa.PublicKey, in.Value, nil))
	case op == "unwrapkey" && in.Alg == "RSA-OAEP-256" && v.rsa != nil:
		result["value"], err = b64(rsa.DecryptOAEP(sha256.New(), nil, v.rsa, in.Value, nil))
	case op == "sign" && in.Alg == "PS256" && v.rsa != nil && len(in.Value) == 32:
		result["value"], err = b64(rsa.SignPSS(rand.Reader, v.rsa, crypto.SHA256, in.Value, &rsa.PSSOptions{SaltLength: 32}))
	case op == "verify" && in.Alg == "PS256" && v.rsa != nil && len(in.Digest) == 32:
		bad := rsa.VerifyPSS(&v.rsa.PublicKey, crypto.SHA256, in.Digest, in.Value, &rsa.PSSOptions{SaltLength: 32})
		result = map[string]any{"value": bad == nil}
	case op == "encrypt" && in.Alg == "A256GCM" && v.aes != nil && len(in.IV) == 0:
		iv := make([]byte, 12)
		rand.Read(iv)
		sealed := v.aes.Seal(nil, iv, in.Value, in.AAD)
		n := len(sealed) - 16
		result["value"], result["iv"], result["tag"], result["aad"] = b64url(sealed[:n]), b64url(iv), b64url(sealed[n:]), in.AAD
	case op == "decrypt" && in.Alg == "A256GCM" && v.aes != nil && len(in.IV) == 12 && len(in.Tag) == 16:
		result["value"], err = b64(v.aes.Open(nil, in.IV, append(slices.Clone(in.Value), in.Tag...), in.AAD))
	default:
		fail(w, http.StatusBadRequest, "BadParameter", "", "Key and signing/encryption algorithm are incompatible. Key https type is "+k.kind+", algorithm "+in.Alg+".")
		return
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "BadParameter", "", "The parameter is incorrect.")
		return
	}
	answer(w, http.StatusOK, result)
}

func b64(b []byte, err error) (b64url, error) { return b, err }

func fail(w http.ResponseWriter, status int, code, inner, message string) {
	e := map[string]any{"code": code, "message": message}
	if inner != "" {
		e["innererror"] = map[string]string{"code": inner}
	}
	answer(w, status, map[string]any{"error": e})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
