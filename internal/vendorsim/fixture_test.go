package vendorsim_test

import (
	"bytes"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/encryptor"
	"spekeasy/internal/vendorsim"
)

// sim is a simulator on a real connection.
type sim struct {
	t  *testing.T
	up *vendorsim.Upstream
}

func start(t *testing.T, vendor string, o vendorsim.Options) *sim {
	t.Helper()
	s, err := vendorsim.New(vendor, o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	up, err := s.Upstream(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &sim{t, up}
}

// with is a change to a request.
type with func(*http.Request)

func header(name, value string) with { return func(r *http.Request) { r.Header.Set(name, value) } }

func (s *sim) basic() with {
	return func(r *http.Request) { r.SetBasicAuth(s.up.User, s.up.Secret) }
}

func v2(r *http.Request) { r.Header.Set("X-Speke-Version", "2.0") }

// answer is an answer with its body.
type answer struct {
	*http.Response
	body []byte
}

func (s *sim) post(url string, body []byte, changes ...with) *answer {
	s.t.Helper()
	a, err := s.try(url, body, changes...)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *sim) try(url string, body []byte, changes ...with) (*answer, error) {
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/xml")
	for _, change := range changes {
		change(r)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return &answer{res, b}, err
}

func testdata(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// document wants a right answer: CPIX whose content keys all have the value
// that follows from the default seed and their key ID.
func (a *answer) document(t *testing.T) *cpix.Document {
	t.Helper()
	if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != "application/xml" {
		t.Fatalf("status %s, %s: %s", a.Status, a.Header.Get("Content-Type"), a.body)
	}
	d, err := cpix.Parse(a.body)
	if err != nil {
		t.Fatalf("%v\n%s", err, a.body)
	}
	for i := range d.ContentKeys {
		k := &d.ContentKeys[i]
		got, err := k.Secret.Plain()
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := vendorsim.Key(vendorsim.DefaultSeed, kid(t, k.KID))
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("the content key of %s is another one", k.KID)
		}
	}
	return d
}

func kid(t *testing.T, text string) contentkey.KID {
	t.Helper()
	k, err := contentkey.ParseKID(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// kids lists the key IDs of the content keys.
func kids(d *cpix.Document) []string {
	var out []string
	for i := range d.ContentKeys {
		out = append(out, d.ContentKeys[i].KID)
	}
	return out
}

// signal returns the value of the first signaling element of a kind, for the
// first DRM system that has it.
func signal(t *testing.T, d *cpix.Document, kind cpix.Kind) string {
	t.Helper()
	for i := range d.DRMSystems {
		for j := range d.DRMSystems[i].Signals {
			if s := &d.DRMSystems[i].Signals[j]; s.Kind == kind {
				b, err := s.Value()
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
		}
	}
	t.Fatalf("no %s in the answer", kind)
	return ""
}

// request builds a request of an imitated encryptor.
func request(t *testing.T, o encryptor.Options) *encryptor.Request {
	t.Helper()
	o.ContentID = "movie1"
	r, err := o.Build()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func recipients(t *testing.T) []*encryptor.Recipient {
	t.Helper()
	r, err := encryptor.NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return []*encryptor.Recipient{r}
}

func certificates(of []*encryptor.Recipient) []*x509.Certificate {
	var out []*x509.Certificate
	for _, r := range of {
		out = append(out, r.Certificate)
	}
	return out
}
