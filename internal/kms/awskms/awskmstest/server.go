// Package awskmstest is a server that speaks the part of the AWS KMS
// protocol that wrapping keys needs: JSON 1.1 over HTTP with Signature
// Version 4. It is for tests; keys live in memory.
package awskmstest

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"spekeasy/internal/kms/kmstest"
)

// Server is a KMS in one region that knows one caller.
type Server struct {
	kmstest.Faults
	URL    string
	Region string
	Caller aws.Credentials

	// Now is the server's clock.
	Now func() time.Time

	mu   sync.Mutex
	keys map[string]*key // by ARN
}

type key struct {
	aead   cipher.AEAD
	state  string // Enabled, Disabled, PendingDeletion
	usage  string
	denied bool
}

// New starts a server for the region; it ends with the test.
func New(t testing.TB, region string) *Server {
	s := &Server{
		Region: region,
		Caller: aws.Credentials{AccessKeyID: "AKIDTEST", SecretAccessKey: rand.Text(), SessionToken: rand.Text()},
		Now:    time.Now,
		keys:   make(map[string]*key),
	}
	srv := httptest.NewServer(s.Wrap(s))
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// CreateKey adds a symmetric key and returns its ARN.
func (s *Server) CreateKey() string {
	id := make([]byte, 16)
	rand.Read(id)
	h := hex.EncodeToString(id)
	arn := "arn:aws:kms:" + s.Region + ":111122223333:key/" + h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	s.add(arn, newAEAD())
	return arn
}

// CreateMultiRegionKey adds one multi-Region key to this and to another
// server and returns its two ARNs.
func (s *Server) CreateMultiRegionKey(other *Server) (string, string) {
	id := make([]byte, 16)
	rand.Read(id)
	name := ":111122223333:key/mrk-" + hex.EncodeToString(id)
	aead := newAEAD()
	here, there := "arn:aws:kms:"+s.Region+name, "arn:aws:kms:"+other.Region+name
	s.add(here, aead)
	other.add(there, aead)
	return here, there
}

func newAEAD() cipher.AEAD {
	k := make([]byte, 32)
	rand.Read(k)
	block, err := aes.NewCipher(k)
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func (s *Server) add(arn string, aead cipher.AEAD) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[arn] = &key{aead: aead, state: "Enabled", usage: "ENCRYPT_DECRYPT"}
}

// SetState makes a key Enabled, Disabled or PendingDeletion.
func (s *Server) SetState(arn, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[arn].state = state
}

// SetUsage makes a key one of another usage, SIGN_VERIFY for example.
func (s *Server) SetUsage(arn, usage string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[arn].usage = usage
}

// Deny takes the caller's permissions on a key away.
func (s *Server) Deny(arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[arn].denied = true
}

type request struct {
	KeyId             string
	Plaintext         []byte
	CiphertextBlob    []byte
	EncryptionContext map[string]string
}

// ServeHTTP answers one request without regard to faults.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/" {
		fail(w, http.StatusNotFound, "UnknownOperationException", "")
		return
	}
	if code, message := s.authenticate(r, body); code != "" {
		fail(w, http.StatusBadRequest, code, message)
		return
	}
	if r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		fail(w, http.StatusBadRequest, "UnknownOperationException", "")
		return
	}
	var in request
	if err := json.Unmarshal(body, &in); err != nil {
		fail(w, http.StatusBadRequest, "SerializationException", "")
		return
	}
	switch r.Header.Get("X-Amz-Target") {
	case "TrentService.Encrypt":
		s.encrypt(w, in)
	case "TrentService.Decrypt":
		s.decrypt(w, in)
	default:
		fail(w, http.StatusBadRequest, "UnknownOperationException", "")
	}
}

// usable returns a key by ARN or key ID if the caller can use it now.
func (s *Server) usable(id string) (arn string, k *key, code, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, candidate := range s.keys {
		if name == id || strings.HasSuffix(name, "/"+id) {
			arn, k = name, candidate
		}
	}
	switch {
	case k == nil:
		return "", nil, "NotFoundException", "Key '" + id + "' does not exist"
	case k.denied:
		return "", nil, "AccessDeniedException", "User: arn:aws:iam::111122223333:user/test is not authorized to perform this on resource: " + arn
	case k.state == "Disabled":
		return "", nil, "DisabledException", arn + " is disabled."
	case k.state != "Enabled":
		return "", nil, "KMSInvalidStateException", arn + " is pending deletion."
	case k.usage != "ENCRYPT_DECRYPT":
		return "", nil, "InvalidKeyUsageException", arn + " key usage is " + k.usage + " which is not valid for this operation."
	}
	return arn, k, "", ""
}

func (s *Server) encrypt(w http.ResponseWriter, in request) {
	if len(in.Plaintext) < 1 || len(in.Plaintext) > 4096 {
		fail(w, http.StatusBadRequest, "ValidationException", "plaintext must have length between 1 and 4096")
		return
	}
	arn, k, code, message := s.usable(in.KeyId)
	if code != "" {
		fail(w, http.StatusBadRequest, code, message)
		return
	}
	id := keyID(arn)
	blob := append([]byte{1, 2, 2, byte(len(id))}, id...)
	blob = k.aead.Seal(blob, nil, in.Plaintext, contextAAD(blob, in.EncryptionContext))
	answer(w, http.StatusOK, map[string]any{"KeyId": arn, "CiphertextBlob": blob, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
}

func (s *Server) decrypt(w http.ResponseWriter, in request) {
	blob := in.CiphertextBlob
	if len(blob) < 1 || len(blob) > 6144 {
		fail(w, http.StatusBadRequest, "ValidationException", "ciphertextBlob must have length between 1 and 6144")
		return
	}
	if len(blob) < 4 || blob[0] != 1 || blob[1] != 2 || blob[2] != 2 || len(blob) < 4+int(blob[3])+28 {
		fail(w, http.StatusBadRequest, "InvalidCiphertextException", "")
		return
	}
	head, sealed := blob[:4+int(blob[3])], blob[4+int(blob[3]):]
	wrappedBy := string(head[4:])
	if in.KeyId == "" {
		in.KeyId = wrappedBy
	}
	arn, k, code, message := s.usable(in.KeyId)
	if code != "" {
		fail(w, http.StatusBadRequest, code, message)
		return
	}
	if keyID(arn) != wrappedBy {
		fail(w, http.StatusBadRequest, "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
		return
	}
	plaintext, err := k.aead.Open(nil, nil, sealed, contextAAD(head, in.EncryptionContext))
	if err != nil {
		fail(w, http.StatusBadRequest, "InvalidCiphertextException", "")
		return
	}
	answer(w, http.StatusOK, map[string]any{"KeyId": arn, "Plaintext": plaintext, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
}

func keyID(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// contextAAD is the blob's head and the sorted encryption context, each part
// with its length before it.
func contextAAD(head []byte, ec map[string]string) []byte {
	aad := bytes.Clone(head)
	names := make([]string, 0, len(ec))
	for name := range ec {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, part := range []string{name, ec[name]} {
			aad = binary.BigEndian.AppendUint32(aad, uint32(len(part)))
			aad = append(aad, part...)
		}
	}
	return aad
}

// authenticate checks the signature by making it again, over exactly those
// headers that the request says it covers.
func (s *Server) authenticate(r *http.Request, body []byte) (code, message string) {
	const scheme = "AWS4-HMAC-SHA256 "
	auth := r.Header.Get("Authorization")
	if !strings.HasPrefix(auth, scheme) {
		return "MissingAuthenticationTokenException", "Request is missing Authentication Token"
	}
	fields := make(map[string]string)
	for _, f := range strings.Split(strings.TrimPrefix(auth, scheme), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[name] = value
	}
	signedAt, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return "IncompleteSignatureException", "Date must be in ISO-8601 'basic format'"
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[1] != signedAt.Format("20060102") || scope[4] != "aws4_request" {
		return "IncompleteSignatureException", "Credential must have 5 parts"
	}
	if scope[0] != s.Caller.AccessKeyID || r.Header.Get("X-Amz-Security-Token") != s.Caller.SessionToken {
		return "UnrecognizedClientException", "The security token included in the request is invalid."
	}
	if scope[2] != s.Region || scope[3] != "kms" {
		return "InvalidSignatureException", "Credential should be scoped to a valid region."
	}
	if age := s.Now().Sub(signedAt); age > 5*time.Minute || age < -5*time.Minute {
		return "InvalidSignatureException", "Signature expired: " + r.Header.Get("X-Amz-Date") + " is not within five minutes of the server's time"
	}
	if s.Caller.CanExpire && s.Now().After(s.Caller.Expires) {
		return "ExpiredTokenException", "The security token included in the request is expired"
	}
	again, err := http.NewRequestWithContext(context.Background(), r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return "InternalFailure", ""
	}
	covered := strings.Split(fields["SignedHeaders"], ";")
	for _, must := range []string{"host", "x-amz-date", "x-amz-target", "x-amz-security-token"} {
		if !slices.Contains(covered, must) {
			return "IncompleteSignatureException", must + " must be signed"
		}
	}
	for _, name := range covered {
		if name != "host" && name != "content-length" {
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	hash := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(r.Context(), s.Caller, again, hex.EncodeToString(hash[:]), "kms", s.Region, signedAt); err != nil {
		return "InternalFailure", ""
	}
	if !hmac.Equal([]byte(again.Header.Get("Authorization")), []byte(auth)) {
		return "InvalidSignatureException", "The request signature we calculated does not match the signature you provided."
	}
	return "", ""
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Amzn-ErrorType", code)
	body := map[string]any{"__type": "com.amazonaws.kms#" + code}
	if message != "" {
		body["message"] = message
	}
	answer(w, status, body)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
