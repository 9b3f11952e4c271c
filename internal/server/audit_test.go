package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"spekeasy/contentkey"
	"spekeasy/internal/audit"
	"spekeasy/internal/server"
)

// openAudit opens an audit log in a directory until the test ends.
func openAudit(t testing.TB, dir string) server.Recorder {
	t.Helper()
	files, err := audit.OpenFiles(dir, audit.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(audit.Options{}, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return log
}

// keyRequests returns the records of key requests in a directory.
func keyRequests(t *testing.T, dir string) (records []audit.Record) {
	t.Helper()
	err := (&audit.Query{}).Run(dir, func(_ []byte, r *audit.Record) error {
		if r.Event == audit.KeyRequest {
			records = append(records, *r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// TestExchangesAreRecorded plays every exchange of testdata/exchange and holds
// the audit log against the answer: one record for each answer to a key
// request, with what was given and to whom, and no content key in any form.
func TestExchangesAreRecorded(t *testing.T) {
	files, err := filepath.Glob(exchanges)
	if err != nil || len(files) < 100 {
		t.Fatalf("%d exchanges, %v", len(files), err)
	}
	dir := t.TempDir()
	log := openAudit(t, dir)
	secrets := make(map[contentkey.Value]bool)
	delivered, refused, named := 0, 0, 0
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		o := exchangeOptions(t, ar)
		o.recorder = log
		s := newServer(t, settings(t, ar), keyTable(t, ar), o)
		before := len(keyRequests(t, dir))
		answer := play(t, s, ar)
		records := keyRequests(t, dir)[before:]
		name := filepath.Base(file)
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if !isKeyRequest(t, ar) {
			if len(records) != 0 {
				t.Errorf("%s: %d records of something that is no key request", name, len(records))
			}
			continue
		}
		if len(records) != 1 {
			t.Errorf("%s: %d records", name, len(records))
			continue
		}
		r := &records[0]
		if r.RequestID != "test" || r.Remote != "192.0.2.1:1234" {
			t.Errorf("%s: request %q from %q", name, r.RequestID, r.Remote)
		}
		if answer.StatusCode == http.StatusOK {
			delivered++
			checkDelivered(t, name, r, body)
			for _, kid := range r.KIDs {
				v, _, err := keyTable(t, ar).Make("", kid)
				if err != nil {
					t.Fatal(err)
				}
				secrets[v] = true
			}
		} else {
			refused++
			if r.ContentID != "" && len(r.KIDs) > 0 {
				named++
			}
			if r.Result != audit.Refused || r.Status != answer.StatusCode || !strings.Contains(r.Error, firstWord(body)) {
				t.Errorf("%s: status %d %q is recorded as %s, status %d %q", name, answer.StatusCode, body, r.Result, r.Status, r.Error)
			}
			if known := r.Tenant != "" && r.Credential != ""; known != (answer.StatusCode != http.StatusUnauthorized) {
				t.Errorf("%s: status %d has tenant %q, credential %q", name, answer.StatusCode, r.Tenant, r.Credential)
			}
		}
	}
	if delivered < 40 || refused < 40 || named < 20 || len(secrets) < 20 {
		t.Errorf("%d answers and %d refusals recorded, %d of them with content, %d keys known: too few to prove anything",
			delivered, refused, named, len(secrets))
	}
	noSecrets(t, dir, secrets)
	if report, err := audit.Verify(dir); err != nil || !report.Sound() {
		t.Errorf("%+v, %v", report, err)
	}
}

// firstWord of an answer, since "unauthorized" is all that some are told.
func firstWord(body []byte) string {
	if word, _, _ := strings.Cut(string(body), " "); word != "unauthorized" {
		return word
	}
	return ""
}

func isKeyRequest(t *testing.T, ar *txtar.Archive) bool {
	audited := http.NewServeMux()
	for _, route := range server.Routes() {
		if route.Audited {
			audited.HandleFunc(route.Method+" "+route.Path, func(http.ResponseWriter, *http.Request) {})
		}
	}
	head, _ := file(ar, "request.http")
	line, _, _ := strings.Cut(string(head), "\n")
	method, target, _ := strings.Cut(strings.TrimSpace(line), " ")
	_, pattern := audited.Handler(httptest.NewRequest(method, target, nil))
	return pattern != ""
}

// checkDelivered holds a record against the document of the answer.
func checkDelivered(t *testing.T, name string, r *audit.Record, body []byte) {
	t.Helper()
	var doc struct {
		ID        string `xml:"id,attr"`
		ContentID string `xml:"contentId,attr"`
		Version   string `xml:"version,attr"`
		Keys      []struct {
			KID    string `xml:"kid,attr"`
			Scheme string `xml:"commonEncryptionScheme,attr"`
		} `xml:"ContentKeyList>ContentKey"`
		Delivery []struct {
			Certificates []string `xml:"DeliveryKey>X509Data>X509Certificate"` // its own, then those that vouch for it
		} `xml:"DeliveryDataList>DeliveryData"`
	}
	if err := xml.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	var kids []string
	for _, k := range doc.Keys {
		kids = append(kids, strings.ToLower(strings.TrimSpace(k.KID)))
	}
	var recipients []string
	for _, d := range doc.Delivery {
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(d.Certificates[0]), ""))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(der)
		recipients = append(recipients, hex.EncodeToString(sum[:]))
	}
	var recorded []string
	for _, kid := range r.KIDs {
		recorded = append(recorded, kid.String())
	}
	protection := audit.Clear
	if len(recipients) > 0 {
		protection = audit.Encrypted
	}
	if r.Result != audit.Delivered || r.Status != 0 || r.Error != "" || r.Tenant == "" || r.Credential == "" ||
		r.ContentID != strings.TrimSpace(doc.ContentID) && r.ContentID != strings.TrimSpace(doc.ID) || !slices.Equal(recorded, kids) ||
		r.Protection != protection || !slices.Equal(r.Recipients, recipients) || r.Created != len(kids) {
		t.Errorf("%s: the answer is recorded as %+v", name, r)
	}
	if scheme := doc.Keys[0].Scheme; r.Profile == "" || len(scheme) == 4 && scheme != r.Scheme {
		t.Errorf("%s: profile %q, scheme %q", name, r.Profile, r.Scheme)
	}
	if override := strings.Contains(name, "-override"); override != (len(r.Requested) > 0) {
		t.Errorf("%s: requested key IDs %v", name, r.Requested)
	}
}

// noSecrets looks for content keys in all files of a directory, raw and in
// every form that somebody might write them in.
func noSecrets(t *testing.T, dir string, secrets map[contentkey.Value]bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lower := bytes.ToLower(text)
		for v := range secrets {
			for _, form := range []string{
				string(v[:]), base64.RawStdEncoding.EncodeToString(v[:]), base64.RawURLEncoding.EncodeToString(v[:]),
				fmt.Sprint([16]byte(v)),
			} {
				if bytes.Contains(text, []byte(form)) {
					t.Fatalf("%s has a content key", file)
				}
			}
			if bytes.Contains(lower, []byte(hex.EncodeToString(v[:]))) || bytes.Contains(lower, []byte(contentkey.KID(v).String())) {
				t.Fatalf("%s has a content key", file)
			}
		}
		if bytes.Contains(text, []byte("dGVzdDp0ZXN0")) { // test:test
			t.Fatalf("%s has a credential", file)
		}
	}
}

// failingRecorder fails as long as it is told to.
type failingRecorder struct {
	server.Recorder
	fail bool
}

func (f *failingRecorder) Record(ctx context.Context, r *audit.Record) error {
	if f.fail {
		return fmt.Errorf("%w: %w", audit.ErrUnavailable, errors.New("no space left on device"))
	}
	return f.Recorder.Record(ctx, r)
}

// TestNoRecordNoKeys refuses everything while no record can be written: keys,
// but also the word that a password is wrong.
func TestNoRecordNoKeys(t *testing.T) {
	for _, c := range []struct{ name, exchange string }{
		{"clear keys", "v2-cmaf-cbcs"},
		{"refusal", "error-missing-content-id"},
		{"wrong password", "error-wrong-password"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ar, err := txtar.ParseFile("../../testdata/exchange/" + c.exchange + ".txtar")
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			rec := &failingRecorder{Recorder: openAudit(t, dir), fail: true}
			o := exchangeOptions(t, ar)
			o.recorder = rec
			s := newServer(t, settings(t, ar), keyTable(t, ar), o)
			answer := play(t, s, ar)
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != http.StatusServiceUnavailable || string(body) != "temporarily unavailable" ||
				answer.Header.Get("Retry-After") == "" || answer.Header.Get("WWW-Authenticate") != "" {
				t.Errorf("without a record the answer is %d %v %q", answer.StatusCode, answer.Header, body)
			}
			if n := len(keyRequests(t, dir)); n != 0 {
				t.Errorf("%d records", n)
			}

			// The same request is answered when records can be written again.
			rec.fail = false
			want, _ := file(ar, "response.http")
			status, _, _ := strings.Cut(string(want), "\n")
			if got := play(t, s, ar).StatusCode; fmt.Sprint(got) != status || len(keyRequests(t, dir)) != 1 {
				t.Errorf("afterwards the answer is %d with %d records", got, len(keyRequests(t, dir)))
			}
		})
	}
}

// TestBodyFaultsAreRecorded records requests that were not read to their end.
func TestBodyFaultsAreRecorded(t *testing.T) {
	dir := t.TempDir()
	s := newServer(t, exampleTenant(), nil, serverOptions{random: zeros{}, now: time.Now, recorder: openAudit(t, dir)})
	for _, c := range []struct {
		name   string
		body   io.Reader
		status int
	}{
		{"too long", strings.NewReader(strings.Repeat("x", 2<<20)), http.StatusRequestEntityTooLarge},
		{"broken off", io.MultiReader(strings.NewReader("<CPIX"), brokenReader{}), http.StatusBadRequest},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/speke/v2.0/copyProtection", c.body)
		r.SetBasicAuth("test", "test")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		records := keyRequests(t, dir)
		if w.Code != c.status || len(records) == 0 || records[len(records)-1].Status != c.status || records[len(records)-1].Result != audit.Refused {
			t.Errorf("%s: status %d, records %+v", c.name, w.Code, records)
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
