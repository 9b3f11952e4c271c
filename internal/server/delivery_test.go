package server_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"spekeasy/encryptor"
	"spekeasy/internal/tenant"
)

// TestDeliveryCertificate: KeyOS' second way in, where the certificate that
// keys are encrypted to names the tenant. Whoever adds a certificate of their
// own, or leaves it out, gets nothing.
func TestDeliveryCertificate(t *testing.T) {
	mine, err := encryptor.NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	thief, err := encryptor.NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	print := sha256.Sum256(mine.Certificate.Raw)
	s := exampleTenant()
	s.Credentials = []tenant.Credential{{Name: "packager", DeliveryCertificate: &tenant.DeliveryCertificate{SHA256: tenant.Fingerprint(hex.EncodeToString(print[:]))}}}
	handler := realServer(t, s)
	ask := func(to ...*encryptor.Recipient) (*encryptor.Request, *httptest.ResponseRecorder) {
		t.Helper()
		o := encryptor.Options{Service: encryptor.MediaPackageV2, ContentID: "channel", Systems: []string{"widevine"}, Recipients: to}
		req, err := o.Build()
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "/copyProtection", bytes.NewReader(req.Body))
		r.Header = req.Header.Clone()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return req, w
	}
	req, w := ask(mine)
	if w.Code != http.StatusOK || bytes.Contains(w.Body.Bytes(), []byte("PlainValue")) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	answer, err := encryptor.ReadAnswer(req, w.Header(), w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if violations := answer.Check(); len(violations) > 0 {
		t.Errorf("the encryptor does not accept it: %v", violations)
	}
	if _, w := ask(mine, thief); w.Code != http.StatusForbidden || w.Body.String() != "forbidden" {
		t.Errorf("with a second recipient: %d %s", w.Code, w.Body)
	}
	if _, w := ask(thief, mine); w.Code != http.StatusForbidden {
		t.Errorf("with another first: %d %s", w.Code, w.Body)
	}
	if _, w := ask(thief); w.Code != http.StatusUnauthorized {
		t.Errorf("another alone: %d %s", w.Code, w.Body)
	}
	if _, w := ask(); w.Code != http.StatusUnauthorized {
		t.Errorf("in clear: %d %s", w.Code, w.Body)
	}
	// The certificate somewhere else than where keys are encrypted to.
	req, _ = ask()
	body := bytes.Replace(req.Body, []byte("<cpix:ContentKeyList"), []byte("<!--<X509Certificate>"+base64.StdEncoding.EncodeToString(mine.Certificate.Raw)+"</X509Certificate>--><cpix:ContentKeyList"), 1)
	r := httptest.NewRequest(http.MethodPost, "/copyProtection", bytes.NewReader(body))
	r.Header = req.Header.Clone()
	w = httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("in a comment: %d %s", w.Code, w.Body)
	}
}
