package gcpkms_test

import (
	"context"
	"errors"
	"hash/crc32"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/gcpkms"
	"spekeasy/internal/kms/gcpkms/gcpkmstest"
	"spekeasy/internal/kms/kmstest"
)

func noEnv(string) string { return "" }

func open(t *testing.T, raw string, opts gcpkms.Options) *gcpkms.Manager {
	t.Helper()
	uri, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if opts.Getenv == nil {
		opts.Getenv = noEnv
	}
	m, err := gcpkms.Open(t.Context(), uri, opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func openAt(t *testing.T, s *gcpkmstest.Server, name string, opts gcpkms.Options) *gcpkms.Manager {
	t.Helper()
	return open(t, "gcpkms://"+name+"?endpoint="+s.URL+"&credentials_file="+s.CredentialsFile(t, nil), opts)
}

func TestSuite(t *testing.T) {
	s := gcpkmstest.New(t)
	one, other := s.CreateKey("one"), s.CreateKey("other")
	kmstest.Run(t, kmstest.Backend{
		Open:      func(t *testing.T) kms.Manager { return openAt(t, s, one, gcpkms.Options{}) },
		OpenOther: func(t *testing.T) kms.Manager { return openAt(t, s, other, gcpkms.Options{}) },
		OpenUnreachable: func(t *testing.T) kms.Manager {
			return open(t, "gcpkms://"+one+"?endpoint=http://127.0.0.1:1&credentials_file="+s.CredentialsFile(t, nil), gcpkms.Options{})
		},
	})
}

func TestPublicEndpointIsTheDefault(t *testing.T) {
	s := gcpkmstest.New(t)
	m := open(t, "gcpkms://"+s.CreateKey("one"), gcpkms.Options{HTTPClient: &http.Client{Transport: kmstest.Hosts{
		"cloudkms.googleapis.com":  s.URL,
		"metadata.google.internal": s.URL,
	}}})
	if err := m.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusesURIs(t *testing.T) {
	const name = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
	for raw, want := range map[string]string{
		"gcpkms:///" + name:                                        "want gcpkms://projects",
		"gcpkms://projects/p/locations/l/keyRings/r":               "want gcpkms://projects",
		"gcpkms://" + name + "/":                                   "want gcpkms://projects",
		"gcpkms://" + name + "%2fx":                                "want gcpkms://projects",
		"gcpkms://" + name + "/cryptoKeyVersions/1":                "without a version",
		"gcpkms://" + name + "?key=hunter2":                        "key",
		"gcpkms://" + name + "?endpoint=http://10.0.0.1":           "https",
		"gcpkms://" + name + "?credentials_file=/nonexistent/file": "/nonexistent/file",
		"gcpkms://projects/../locations/l/keyRings/r/cryptoKeys/k": "want gcpkms://projects",
		"gcpkms:": "want gcpkms://projects",
	} {
		uri, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = gcpkms.Open(t.Context(), uri, gcpkms.Options{Getenv: noEnv})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v, want one about %q that shows no secret", raw, err, want)
		}
	}
}

func TestOpenRefusesCredentialFiles(t *testing.T) {
	s := gcpkmstest.New(t)
	notJSON := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notJSON, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, path := range map[string]string{
		"not a JSON key file": notJSON,
		"authorized_user":     s.CredentialsFile(t, map[string]string{"type": "authorized_user"}),
		"not PEM":             s.CredentialsFile(t, map[string]string{"private_key": "hunter2"}),
		"not a PKCS #8 key":   s.CredentialsFile(t, map[string]string{"private_key": "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n"}),
		"must be https":       s.CredentialsFile(t, map[string]string{"token_uri": "http://10.0.0.1/token"}),
		"client_email":        s.CredentialsFile(t, map[string]string{"client_email": ""}),
		"no such file":        "/nonexistent",
	} {
		uri := &url.URL{Scheme: "gcpkms", Host: "projects", Path: "/p/locations/global/keyRings/r/cryptoKeys/k"}
		_, err := gcpkms.Open(t.Context(), uri, gcpkms.Options{Getenv: func(name string) string {
			if name == "GOOGLE_APPLICATION_CREDENTIALS" {
				return path
			}
			return ""
		}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %v, want one about %q and %s that shows no secret", err, want, path)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(s *gcpkmstest.Server, key string)
		want    error
		says    string
	}{
		"version disabled":  {func(s *gcpkmstest.Server, key string) { s.SetState(key, 1, "DISABLED") }, kms.ErrKeyUnusable, "DISABLED"},
		"version destroyed": {func(s *gcpkmstest.Server, key string) { s.SetState(key, 1, "DESTROYED") }, kms.ErrKeyUnusable, "versions list"},
		"key for signing":   {func(s *gcpkmstest.Server, key string) { s.SetPurpose(key, "ASYMMETRIC_SIGN") }, kms.ErrKeyUnusable, "ASYMMETRIC_SIGN"},
		"no permission":     {func(s *gcpkmstest.Server, _ string) { s.Deny() }, kms.ErrDenied, "cryptoKeyEncrypterDecrypter"},
	} {
		t.Run(name, func(t *testing.T) {
			s := gcpkmstest.New(t)
			key := s.CreateKey("one")
			m := openAt(t, s, key, gcpkms.Options{})
			wrapped, err := m.Wrap(t.Context(), []byte("data key"), nil)
			if err != nil {
				t.Fatal(err)
			}
			c.prepare(s, key)
			_, wrapErr := m.Wrap(t.Context(), []byte("data key"), nil)
			_, unwrapErr := m.Unwrap(t.Context(), key, wrapped, nil)
			for what, err := range map[string]error{"Wrap": wrapErr, "Unwrap": unwrapErr, "Check": m.Check(t.Context())} {
				if !errors.Is(err, c.want) || errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), key) {
					t.Errorf("%s: %v; want %v with %q and the name", what, err, c.want, c.says)
				}
				kmstest.Discreet(t, err, []byte("data key"))
			}
		})
	}
}

func TestKeyThatDoesNotExist(t *testing.T) {
	s := gcpkmstest.New(t)
	m := openAt(t, s, "projects/test-project/locations/europe-west1/keyRings/films/cryptoKeys/none", gcpkms.Options{})
	if err := m.Check(t.Context()); !errors.Is(err, kms.ErrKeyUnusable) || !strings.Contains(err.Error(), "does not exist") {
		t.Error(err)
	}
}

func TestRotationInCloudKMS(t *testing.T) {
	s := gcpkmstest.New(t)
	key := s.CreateKey("one")
	m := openAt(t, s, key, gcpkms.Options{})
	old, err := m.Wrap(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Rotate(key)
	if err := m.Check(t.Context()); err != nil {
		t.Errorf("new version: %v", err)
	}
	if got, err := m.Unwrap(t.Context(), key, old, nil); err != nil || string(got) != "data key" {
		t.Errorf("old version: %q, %v", got, err)
	}
}

func TestTokens(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	s := gcpkmstest.New(t)
	s.Now = clock
	m := openAt(t, s, s.CreateKey("one"), gcpkms.Options{Now: clock})
	for _, step := range []struct {
		name   string
		do     func()
		issued int
	}{
		{"first use", func() {}, 1},
		{"second use", func() {}, 1},
		{"almost an hour later", func() { now = now.Add(59 * time.Minute) }, 2},
		{"revoked", s.RevokeTokens, 3},
		{"a year later", func() { now = now.Add(365 * 24 * time.Hour) }, 4},
	} {
		step.do()
		if err := m.Check(t.Context()); err != nil || s.Issued() != step.issued {
			t.Errorf("%s: %v with %d tokens issued, want %d", step.name, err, s.Issued(), step.issued)
		}
	}
}

func TestCredentialsThatAreRefused(t *testing.T) {
	other := gcpkmstest.New(t)
	for name, c := range map[string]struct {
		override map[string]string
		skew     time.Duration
		says     string
	}{
		"key of another account": {map[string]string{"client_email": "x@example.com"}, 0, "account not found"},
		"clock a day ahead":      {nil, 24 * time.Hour, "reasonable timeframe"},
		"clock a day behind":     {nil, -24 * time.Hour, "reasonable timeframe"},
		"key that was replaced":  {map[string]string{"token_uri": other.URL + "/token"}, 0, "Invalid JWT Signature"},
	} {
		t.Run(name, func(t *testing.T) {
			s := gcpkmstest.New(t)
			m := open(t, "gcpkms://"+s.CreateKey("one")+"?endpoint="+s.URL+"&credentials_file="+s.CredentialsFile(t, c.override),
				gcpkms.Options{Now: func() time.Time { return time.Now().Add(c.skew) }})
			if err := m.Check(t.Context()); !errors.Is(err, kms.ErrDenied) || errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; want %v with %q", err, kms.ErrDenied, c.says)
			}
		})
	}
}

func TestMetadataServer(t *testing.T) {
	s := gcpkmstest.New(t)
	host := strings.TrimPrefix(s.URL, "http://")
	env := func(name string) string { return map[string]string{"GCE_METADATA_HOST": host}[name] }
	m := open(t, "gcpkms://"+s.CreateKey("one")+"?endpoint="+s.URL, gcpkms.Options{Getenv: env})
	if err := m.Check(t.Context()); err != nil {
		t.Error(err)
	}
	host = "127.0.0.1:1"
	m = open(t, "gcpkms://"+s.CreateKey("one")+"?endpoint="+s.URL, gcpkms.Options{Getenv: env})
	if err := m.Check(t.Context()); !errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), "google credentials") {
		t.Errorf("no metadata server: %v", err)
	}
}

func TestFaultsThatPass(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"throttled":       kmstest.Answer(429, `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}`),
		"unavailable":     kmstest.Answer(503, `{"error":{"code":503,"status":"UNAVAILABLE"}}`),
		"gateway timeout": kmstest.Answer(504, `<html>`),
		"connection lost": kmstest.HangUp,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := gcpkmstest.New(t)
			m := openAt(t, s, s.CreateKey("one"), gcpkms.Options{})
			s.Next(fault) // meets the request for a token
			if err := m.Check(t.Context()); err != nil {
				t.Error(err)
			}
			s.Next(fault) // meets the request to encrypt
			if err := m.Check(t.Context()); err != nil || s.Seen() != 7 {
				t.Errorf("%v after %d requests, want 7", err, s.Seen())
			}
		})
	}
}

func TestAnswersThatMeanNothing(t *testing.T) {
	zeroSum := strconv.FormatUint(uint64(crc32.Checksum([]byte{0, 0, 0}, crc32.MakeTable(crc32.Castagnoli))), 10)
	const name = `"name":"projects/test-project/locations/europe-west1/keyRings/films/cryptoKeys/one/cryptoKeyVersions/1",`
	for what, body := range map[string]string{
		"not JSON":                    `<html>log in to the hotel's network</html>`,
		"JSON of another kind":        `[]`,
		"empty object":                `{}`,
		"empty ciphertext":            `{` + name + `"ciphertext":"","ciphertextCrc32c":"0","verifiedPlaintextCrc32c":true,"verifiedAdditionalAuthenticatedDataCrc32c":true}`,
		"ciphertext without checksum": `{` + name + `"ciphertext":"AAAA","verifiedPlaintextCrc32c":true,"verifiedAdditionalAuthenticatedDataCrc32c":true,"plaintext":"AAAA"}`,
		"wrong checksum":              `{` + name + `"ciphertext":"AAAA","ciphertextCrc32c":"1","verifiedPlaintextCrc32c":true,"verifiedAdditionalAuthenticatedDataCrc32c":true,"plaintext":"AAAA","plaintextCrc32c":"1"}`,
		"checksum that is no number":  `{` + name + `"ciphertext":"AAAA","ciphertextCrc32c":"x","plaintext":"AAAA","plaintextCrc32c":"x"}`,
		"plaintext was not verified":  `{` + name + `"ciphertext":"AAAA","ciphertextCrc32c":"` + zeroSum + `","verifiedAdditionalAuthenticatedDataCrc32c":true}`,
		"aad was not verified":        `{` + name + `"ciphertext":"AAAA","ciphertextCrc32c":"` + zeroSum + `","verifiedPlaintextCrc32c":true}`,
		"answer for another key":      `{"name":"projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1","ciphertext":"AAAA","ciphertextCrc32c":"` + zeroSum + `","verifiedPlaintextCrc32c":true,"verifiedAdditionalAuthenticatedDataCrc32c":true}`,
	} {
		t.Run(what, func(t *testing.T) {
			s := gcpkmstest.New(t)
			m := openAt(t, s, s.CreateKey("one"), gcpkms.Options{})
			if err := m.Check(t.Context()); err != nil { // the token is there now
				t.Fatal(err)
			}
			s.Next(kmstest.Answer(200, body))
			if _, err := m.Wrap(t.Context(), []byte("x"), []byte("aad")); !errors.Is(err, kms.ErrUnavailable) {
				t.Errorf("Wrap: %v", err)
			}
			s.Next(kmstest.Answer(200, body))
			if _, err := m.Unwrap(t.Context(), m.KeyID(), []byte("x"), []byte("aad")); !errors.Is(err, kms.ErrUnavailable) {
				t.Errorf("Unwrap: %v", err)
			}
		})
	}
}

func TestTokenAnswersThatMeanNothing(t *testing.T) {
	for what, body := range map[string]string{
		"not JSON":     `<html>`,
		"no token":     `{"expires_in":3600,"token_type":"Bearer"}`,
		"expired":      `{"access_token":"hunter2","expires_in":-1,"token_type":"Bearer"}`,
		"another type": `{"access_token":"hunter2","expires_in":3600,"token_type":"mac"}`,
	} {
		s := gcpkmstest.New(t)
		m := openAt(t, s, s.CreateKey("one"), gcpkms.Options{})
		s.Next(kmstest.Answer(200, body))
		if err := m.Check(t.Context()); !errors.Is(err, kms.ErrUnavailable) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestSlowService(t *testing.T) {
	s := gcpkmstest.New(t)
	m := openAt(t, s, s.CreateKey("one"), gcpkms.Options{})
	s.Next(kmstest.Slow)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.Check(ctx); !errors.Is(err, kms.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
