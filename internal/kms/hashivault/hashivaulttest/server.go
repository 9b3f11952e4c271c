// Package hashivaulttest is a server that speaks the part of the Vault and
// OpenBao API that wrapping keys needs: the transit engine, and the token,
// AppRole and Kubernetes auth methods, in one namespace. It is for tests;
// keys live in memory.
package hashivaulttest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/internal/kms/kmstest"
)

// Server is a Vault with a transit engine.
type Server struct {
	kmstest.Faults
	URL       string
	HTTP      *httptest.Server
	Mount     string // of the engine, "transit" by default
	Namespace string // X-Vault-Namespace that requests must have

	// AuthMounts says where the AppRole and Kubernetes methods are.
	AppRoleMount, KubernetesMount string

	// What the auth methods accept, and the root token.
	RoleID, SecretID, Role, JWT, Root string

	// TTL is that of tokens from a login.
	TTL time.Duration

	// Now is the server's clock.
	Now func() time.Time

	// May lists the capabilities of all tokens: read, update, create.
	May []string

	// BeforeAssociatedData makes the server one that does not know the
	// parameter and ignores it, as Vault did before 1.13.
	BeforeAssociatedData bool

	mu     sync.Mutex
	keys   map[string]*Key
	tokens map[string]time.Time
	logins int
}

// Key is a transit key.
type Key struct {
	Type        string
	Derived     bool
	SoftDeleted bool
	MinDecrypt  int
	material    [][]byte // of the versions, in order
}

// New starts a server; tlsOn gives it a certificate. It ends with the test.
func New(t testing.TB, tlsOn bool) *Server {
	s := &Server{
		Mount: "transit", AppRoleMount: "approle", KubernetesMount: "kubernetes",
		RoleID: rand.Text(), SecretID: rand.Text(), Role: "spekeasy", JWT: "eyJhbGciOiJSUzI1NiJ9." + rand.Text(), Root: "hvs." + rand.Text(),
		TTL: time.Hour, Now: time.Now, May: []string{"read", "update"},
		keys: make(map[string]*Key), tokens: make(map[string]time.Time),
	}
	start := httptest.NewServer
	if tlsOn {
		start = httptest.NewTLSServer
	}
	s.HTTP = start(s.Wrap(s))
	t.Cleanup(s.HTTP.Close)
	s.URL = s.HTTP.URL
	return s
}

// CreateKey adds a key with one version.
func (s *Server) CreateKey(name string, k Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.Type == "" {
		k.Type = "aes256-gcm96"
	}
	k.rotate()
	s.keys[name] = &k
}

// Change edits a key; nil removes it.
func (s *Server) Change(name string, edit func(*Key)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if edit == nil {
		delete(s.keys, name)
		return
	}
	edit(s.keys[name])
}

// Rotate gives a key a new version.
func (s *Server) Rotate(name string) {
	s.Change(name, (*Key).rotate)
}

func (k *Key) rotate() {
	material := make([]byte, 32)
	rand.Read(material)
	k.material = append(k.material, material)
}

// Material returns the bytes of a key's version, counted from 1.
func (s *Server) Material(name string, version int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[name].material[version-1]
}

// Exists reports whether there is a key.
func (s *Server) Exists(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[name] != nil
}

// RevokeTokens makes the server forget the tokens it has issued.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// Logins returns how many logins succeeded.
func (s *Server) Logins() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins
}

// ServeHTTP answers one request without regard to faults.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	if !ok || r.Header.Get("X-Vault-Namespace") != s.Namespace {
		fail(w, http.StatusNotFound, "no handler for route \""+r.URL.Path+"\". route entry not found.")
		return
	}
	write := r.Method == http.MethodPost || r.Method == http.MethodPut
	switch {
	case path == "auth/"+s.AppRoleMount+"/login" && write:
		var in struct {
			RoleID   string `json:"role_id"`
			SecretID string `json:"secret_id"`
		}
		if !decode(w, r, &in) {
			return
		}
		if in.RoleID != s.RoleID || in.SecretID != s.SecretID {
			fail(w, http.StatusBadRequest, "invalid role or secret ID")
			return
		}
		s.login(w)
	case path == "auth/"+s.KubernetesMount+"/login" && write:
		var in struct {
			Role string `json:"role"`
			JWT  string `json:"jwt"`
		}
		if !decode(w, r, &in) {
			return
		}
		if in.Role != s.Role {
			fail(w, http.StatusBadRequest, fmt.Sprintf("invalid role name %q", in.Role))
			return
		}
		if in.JWT != s.JWT {
			fail(w, http.StatusForbidden, "permission denied")
			return
		}
		s.login(w)
	case strings.HasPrefix(path, s.Mount+"/"):
		if !s.known(r.Header.Get("X-Vault-Token")) {
			fail(w, http.StatusForbidden, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
			return
		}
		s.transit(w, r, strings.Split(strings.TrimPrefix(path, s.Mount+"/"), "/"))
	default:
		fail(w, http.StatusNotFound, "no handler for route \""+path+"\". route entry not found.")
	}
}

func (s *Server) known(token string) bool {
	until, ok := s.tokens[token]
	return token != "" && token == s.Root || ok && (until.IsZero() || s.Now().Before(until))
}

func (s *Server) login(w http.ResponseWriter) {
	token := "hvs." + rand.Text()
	s.tokens[token] = time.Time{}
	if s.TTL > 0 {
		s.tokens[token] = s.Now().Add(s.TTL)
	}
	s.logins++
	answer(w, map[string]any{"auth": map[string]any{
		"client_token": token, "accessor": "accessor", "policies": []string{"default"},
		"lease_duration": int(s.TTL.Seconds()), "renewable": true, "token_type": "service",
	}})
}

func (s *Server) may(capability string) bool {
	for _, c := range s.May {
		if c == capability {
			return true
		}
	}
	return false
}

func (s *Server) transit(w http.ResponseWriter, r *http.Request, path []string) {
	if len(path) != 2 {
		fail(w, http.StatusNotFound, "unsupported path")
		return
	}
	verb, name := path[0], path[1]
	k := s.keys[name]
	if verb == "keys" && r.Method == http.MethodGet {
		switch {
		case !s.may("read"):
			fail(w, http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
		case k == nil:
			fail(w, http.StatusNotFound)
		default:
			answer(w, map[string]any{"data": k.describe(name)})
		}
		return
	}
	if r.Method != http.MethodPost && r.Method != http.MethodPut || verb != "encrypt" && verb != "decrypt" {
		fail(w, http.StatusMethodNotAllowed, "unsupported operation")
		return
	}
	// Encrypting with a key that is not there is a create operation.
	capability := "update"
	if k == nil && verb == "encrypt" {
		capability = "create"
	}
	if !s.may(capability) {
		fail(w, http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
		return
	}
	var in struct {
		Plaintext      *string `json:"plaintext"`
		Ciphertext     string  `json:"ciphertext"`
		AssociatedData string  `json:"associated_data"`
	}
	if !decode(w, r, &in) {
		return
	}
	if k == nil && verb == "encrypt" {
		k = &Key{Type: "aes256-gcm96"}
		k.rotate()
		s.keys[name] = k
	}
	if k == nil {
		fail(w, http.StatusBadRequest, "encryption key not found")
		return
	}
	aad, err := base64.StdEncoding.DecodeString(in.AssociatedData)
	if err != nil {
		fail(w, http.StatusBadRequest, "unable to decode associated_data: "+err.Error())
		return
	}
	if s.BeforeAssociatedData {
		aad = nil
	}
	if verb == "encrypt" {
		k.encrypt(w, in.Plaintext, aad)
	} else {
		k.decrypt(w, in.Ciphertext, aad)
	}
}

func (k *Key) describe(name string) map[string]any {
	versions := make(map[string]int)
	for i := range k.material {
		versions[strconv.Itoa(i+1)] = 1442851412
	}
	return map[string]any{
		"name": name, "type": k.Type, "derived": k.Derived, "soft_deleted": k.SoftDeleted, "keys": versions,
		"latest_version": len(k.material), "min_decryption_version": max(1, k.MinDecrypt), "min_encryption_version": 0,
		"supports_encryption": true, "supports_decryption": true, "supports_derivation": true, "supports_signing": false,
		"deletion_allowed": false, "exportable": false, "allow_plaintext_backup": false, "imported_key": false,
	}
}

func (k *Key) refuses(w http.ResponseWriter) bool {
	switch {
	case k.SoftDeleted:
		fail(w, http.StatusBadRequest, "refusing to use soft-deleted key")
	case k.Derived:
		fail(w, http.StatusBadRequest, "missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information must be included in order to perform operations with the key")
	default:
		return false
	}
	return true
}

func (k *Key) encrypt(w http.ResponseWriter, plaintext *string, aad []byte) {
	if plaintext == nil {
		fail(w, http.StatusBadRequest, "missing plaintext to encrypt")
		return
	}
	p, err := base64.StdEncoding.DecodeString(*plaintext)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if k.refuses(w) {
		return
	}
	version := len(k.material)
	nonce := make([]byte, 12)
	rand.Read(nonce)
	sealed := gcm(k.material[version-1]).Seal(nonce, nonce, p, aad)
	answer(w, map[string]any{"data": map[string]any{
		"ciphertext": "vault:v" + strconv.Itoa(version) + ":" + base64.StdEncoding.EncodeToString(sealed), "key_version": version,
	}})
}

// decrypt has the checks of Vault in their order, with its words.
func (k *Key) decrypt(w http.ResponseWriter, ciphertext string, aad []byte) {
	bad := func(words string) { fail(w, http.StatusBadRequest, words) }
	if ciphertext == "" {
		bad("missing ciphertext to decrypt")
		return
	}
	if k.refuses(w) {
		return
	}
	rest, ok := strings.CutPrefix(ciphertext, "vault:v")
	if !ok {
		bad("invalid ciphertext: no prefix")
		return
	}
	number, sealed64, ok := strings.Cut(rest, ":")
	if !ok {
		bad("invalid ciphertext: wrong number of fields")
		return
	}
	version, err := strconv.Atoi(number)
	if err != nil {
		bad("invalid ciphertext: version number could not be decoded")
		return
	}
	if version == 0 {
		version = 1
	}
	if version > len(k.material) {
		bad("invalid ciphertext: version is too new")
		return
	}
	if version < k.MinDecrypt {
		bad("ciphertext or signature version is disallowed by policy (too old)")
		return
	}
	sealed, err := base64.StdEncoding.DecodeString(sealed64)
	if err != nil {
		bad("invalid ciphertext: could not decode base64")
		return
	}
	if len(sealed) < 12 {
		bad("invalid ciphertext length")
		return
	}
	p, err := gcm(k.material[version-1]).Open(nil, sealed[:12], sealed[12:], aad)
	if err != nil {
		bad(err.Error())
		return
	}
	answer(w, map[string]any{"data": map[string]any{"plaintext": base64.StdEncoding.EncodeToString(p)}})
}

func gcm(material []byte) cipher.AEAD {
	block, err := aes.NewCipher(material)
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		fail(w, http.StatusBadRequest, "failed to parse JSON input: "+err.Error())
		return false
	}
	return true
}

func fail(w http.ResponseWriter, status int, words ...string) {
	if words == nil {
		words = []string{}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": words})
}

func answer(w http.ResponseWriter, body map[string]any) {
	full := map[string]any{"request_id": rand.Text(), "lease_id": "", "renewable": false, "lease_duration": 0, "data": nil, "wrap_info": nil, "warnings": nil, "auth": nil}
	for k, v := range body {
		full[k] = v
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(full)
}
