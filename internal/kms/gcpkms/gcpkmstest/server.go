// Package gcpkmstest is a server that speaks the part of the Cloud KMS v1
// REST API that wrapping keys needs, with the token endpoint for service
// accounts and the metadata server. It is for tests; keys live in memory.
package gcpkmstest

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/internal/kms/kmstest"
)

const email = "spekeasy@test-project.iam.gserviceaccount.com"

// Server is Cloud KMS, oauth2.googleapis.com and the metadata server in one.
type Server struct {
	kmstest.Faults
	URL string

	// Now is the server's clock.
	Now func() time.Time

	account *rsa.PrivateKey

	mu     sync.Mutex
	keys   map[string]*cryptoKey // by resource name
	tokens map[string]time.Time  // until when they are good
	denied bool
	issued int
}

type cryptoKey struct {
	versions []*version // the last one is the primary
	purpose  string
}

type version struct {
	aead  cipher.AEAD
	state string
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	account, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Now: time.Now, account: account, keys: make(map[string]*cryptoKey), tokens: make(map[string]time.Time)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.exchange)
	mux.HandleFunc("GET /computeMetadata/v1/instance/service-accounts/default/token", s.metadata)
	mux.HandleFunc("POST /v1/", s.operate)
	srv := httptest.NewServer(s.Wrap(mux))
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// CreateKey adds a symmetric key with one version and returns its name.
func (s *Server) CreateKey(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := "projects/test-project/locations/europe-west1/keyRings/films/cryptoKeys/" + id
	s.keys[name] = &cryptoKey{purpose: "ENCRYPT_DECRYPT"}
	s.keys[name].rotate()
	return name
}

// Rotate gives a key a new primary version.
func (s *Server) Rotate(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name].rotate()
}

func (k *cryptoKey) rotate() {
	material := make([]byte, 32)
	rand.Read(material)
	block, err := aes.NewCipher(material)
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	k.versions = append(k.versions, &version{aead, "ENABLED"})
}

// SetState makes a version, counted from 1, ENABLED, DISABLED or DESTROYED.
func (s *Server) SetState(name string, number int, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name].versions[number-1].state = state
}

// SetPurpose makes a key one of another purpose.
func (s *Server) SetPurpose(name, purpose string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name].purpose = purpose
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

// CredentialsFile writes the key file of a service account that the server
// knows and returns its path. Members in override replace the file's.
func (s *Server) CredentialsFile(t testing.TB, override map[string]string) string {
	der, err := x509.MarshalPKCS8PrivateKey(s.account)
	if err != nil {
		t.Fatal(err)
	}
	file := map[string]string{
		"type":           "service_account",
		"project_id":     "test-project",
		"private_key_id": "0123456789abcdef",
		"private_key":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email":   email,
		"token_uri":      s.URL + "/token",
	}
	for k, v := range override {
		file[k] = v
	}
	b, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// exchange is the token endpoint: RFC 7523 with Google's claims.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request) {
	fail := func(code, description string) {
		answer(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": description})
	}
	if r.PostFormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		fail("unsupported_grant_type", "Invalid grant_type: "+r.PostFormValue("grant_type"))
		return
	}
	parts := strings.Split(r.PostFormValue("assertion"), ".")
	if len(parts) != 3 {
		fail("invalid_grant", "Bad assertion")
		return
	}
	var header struct{ Alg, Typ, Kid string }
	var claims struct {
		Iss, Scope, Aud string
		Iat, Exp        int64
	}
	for i, into := range []any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(b, into) != nil {
			fail("invalid_grant", "Bad assertion")
			return
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || header.Alg != "RS256" || rsa.VerifyPKCS1v15(&s.account.PublicKey, crypto.SHA256, digest[:], signature) != nil {
		fail("invalid_grant", "Invalid JWT Signature.")
		return
	}
	now := s.Now().Unix()
	switch {
	case claims.Iss != email:
		fail("invalid_grant", "Invalid grant: account not found")
	case claims.Aud != s.URL+"/token":
		fail("invalid_grant", "Invalid JWT: Failed audience check.")
	case claims.Iat > now+300 || claims.Exp < now || claims.Exp-claims.Iat > 3600:
		fail("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.")
	case claims.Scope != "https://www.googleapis.com/auth/cloudkms" && !strings.Contains(claims.Scope, "https://www.googleapis.com/auth/cloud-platform"):
		fail("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
	default:
		s.issue(w)
	}
}

func (s *Server) metadata(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Metadata-Flavor", "Google")
	if r.Header.Get("Metadata-Flavor") != "Google" {
		http.Error(w, "Missing required header: Metadata-Flavor", http.StatusForbidden)
		return
	}
	s.issue(w)
}

func (s *Server) issue(w http.ResponseWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := "ya29." + rand.Text()
	s.tokens[token] = s.Now().Add(time.Hour)
	s.issued++
	answer(w, http.StatusOK, map[string]any{"access_token": token, "expires_in": 3599, "token_type": "Bearer"})
}

// The wire forms, with integers in strings as the API's JSON mapping has them.
type encryptRequest struct {
	Plaintext []byte `json:"plaintext"`
	Sum       string `json:"plaintextCrc32c"`
	AAD       []byte `json:"additionalAuthenticatedData"`
	AADSum    string `json:"additionalAuthenticatedDataCrc32c"`
}

type decryptRequest struct {
	Ciphertext []byte `json:"ciphertext"`
	Sum        string `json:"ciphertextCrc32c"`
	AAD        []byte `json:"additionalAuthenticatedData"`
	AADSum     string `json:"additionalAuthenticatedDataCrc32c"`
}

func (s *Server) operate(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, known := s.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	if !known || !s.Now().Before(until) {
		fail(w, http.StatusUnauthorized, "UNAUTHENTICATED", "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.")
		return
	}
	name, verb, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"), ":")
	if s.denied {
		fail(w, http.StatusForbidden, "PERMISSION_DENIED", "Permission 'cloudkms.cryptoKeyVersions.useTo"+verb+"' denied on resource '"+name+"' (or it may not exist).")
		return
	}
	k := s.keys[name]
	if k == nil {
		fail(w, http.StatusNotFound, "NOT_FOUND", "CryptoKey "+name+" not found.")
		return
	}
	if k.purpose != "ENCRYPT_DECRYPT" {
		fail(w, http.StatusBadRequest, "FAILED_PRECONDITION", name+" is not enabled for "+verb+"; its purpose is "+k.purpose)
		return
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	switch verb {
	case "encrypt":
		var in encryptRequest
		if err := dec.Decode(&in); err != nil {
			fail(w, http.StatusBadRequest, "INVALID_ARGUMENT", "Invalid JSON payload received.")
			return
		}
		k.encrypt(w, name, in)
	case "decrypt":
		var in decryptRequest
		if err := dec.Decode(&in); err != nil {
			fail(w, http.StatusBadRequest, "INVALID_ARGUMENT", "Invalid JSON payload received.")
			return
		}
		k.decrypt(w, name, in)
	default:
		http.NotFound(w, r)
	}
}

func crc(b []byte) string {
	return strconv.FormatUint(uint64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))), 10)
}

// checked compares a checksum that a request may carry.
func checked(w http.ResponseWriter, field, given string, b []byte) bool {
	if given != "" && given != crc(b) {
		fail(w, http.StatusBadRequest, "INVALID_ARGUMENT", "The checksum in field "+field+" did not match the data in field "+strings.TrimSuffix(field, "_crc32c")+".")
		return false
	}
	return true
}

func enabled(w http.ResponseWriter, name string, number int, v *version) bool {
	if v.state != "ENABLED" {
		fail(w, http.StatusBadRequest, "FAILED_PRECONDITION", name+"/cryptoKeyVersions/"+strconv.Itoa(number)+" is not enabled, current state is: "+v.state+".")
		return false
	}
	return true
}

func (k *cryptoKey) encrypt(w http.ResponseWriter, name string, in encryptRequest) {
	if len(in.Plaintext) > 64<<10 || len(in.AAD) > 64<<10 {
		fail(w, http.StatusBadRequest, "INVALID_ARGUMENT", "The plaintext must be no larger than 64KiB.")
		return
	}
	number := len(k.versions)
	v := k.versions[number-1]
	if !checked(w, "plaintext_crc32c", in.Sum, in.Plaintext) || !checked(w, "additional_authenticated_data_crc32c", in.AADSum, in.AAD) || !enabled(w, name, number, v) {
		return
	}
	head := []byte{0x0a, 0x24, 0x00, byte(number)}
	ciphertext := v.aead.Seal(bytes.Clone(head), nil, in.Plaintext, append(head, in.AAD...))
	answer(w, http.StatusOK, map[string]any{
		"name":                    name + "/cryptoKeyVersions/" + strconv.Itoa(number),
		"ciphertext":              ciphertext,
		"ciphertextCrc32c":        crc(ciphertext),
		"verifiedPlaintextCrc32c": in.Sum != "",
		"verifiedAdditionalAuthenticatedDataCrc32c": in.AADSum != "",
		"protectionLevel": "SOFTWARE",
	})
}

func (k *cryptoKey) decrypt(w http.ResponseWriter, name string, in decryptRequest) {
	if !checked(w, "ciphertext_crc32c", in.Sum, in.Ciphertext) || !checked(w, "additional_authenticated_data_crc32c", in.AADSum, in.AAD) {
		return
	}
	c := in.Ciphertext
	if len(c) < 4 || c[0] != 0x0a || c[1] != 0x24 || c[2] != 0 || c[3] == 0 || int(c[3]) > len(k.versions) {
		fail(w, http.StatusBadRequest, "INVALID_ARGUMENT", "Decryption failed: verify that 'name' refers to the correct CryptoKey.")
		return
	}
	number := int(c[3])
	v := k.versions[number-1]
	if !enabled(w, name, number, v) {
		return
	}
	plaintext, err := v.aead.Open(nil, nil, c[4:], append(bytes.Clone(c[:4]), in.AAD...))
	if err != nil {
		fail(w, http.StatusBadRequest, "INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.")
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"plaintext":       plaintext,
		"plaintextCrc32c": crc(plaintext),
		"usedPrimary":     number == len(k.versions),
		"protectionLevel": "SOFTWARE",
	})
}

func fail(w http.ResponseWriter, code int, status, message string) {
	answer(w, code, map[string]any{"error": map[string]any{"code": code, "message": message, "status": status}})
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}
