package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"spekeasy/internal/auth"
	"spekeasy/internal/keystore"
	"spekeasy/internal/server"
	"spekeasy/internal/tenant"
	"spekeasy/speke"
)

const keyPath = "/speke/v2.0/copyProtection"

var keyPaths = []string{"/speke/v1.0/copyProtection", keyPath, "/speke/v2.1/copyProtection", "/speke/copyProtection"}

// requestOf returns the body of an exchange's request.
func requestOf(t testing.TB, name string) []byte {
	t.Helper()
	ar, err := txtar.ParseFile("../../testdata/exchange/" + name + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	body, ok := file(ar, "request.xml")
	if !ok {
		t.Fatalf("%s has no request.xml", name)
	}
	return body
}

// ask sends a request to the handler, with credentials and version 2.0 unless
// headers say otherwise; an empty value takes a header away.
func ask(t testing.TB, h http.Handler, method, target string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, body)
	r.Header.Set("Authorization", "Basic dGVzdDp0ZXN0")
	r.Header.Set("X-Speke-Version", "2.0")
	for i := 0; i < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// provider is a key provider that answers with an error.
type provider struct{ err error }

func (p provider) Provide(context.Context, *tenant.Tenant, *speke.Request) (*speke.Answer, error) {
	return nil, p.err
}

type tenants struct{ err error }

func (t tenants) Tenant(context.Context, string) (*tenant.Tenant, error) {
	if t.err != nil {
		return nil, t.err
	}
	s := exampleTenant()
	return s.Build()
}

// serverWith returns a handler over parts that fail as they are told, and its
// log.
func serverWith(t testing.TB, tn server.Tenants, p server.Provider) (http.Handler, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	return server.New(authenticator(t, "example"), tn, p, openAudit(t, t.TempDir()), "spekeasy/test", slog.New(slog.NewTextHandler(&log, nil))), &log
}

// TestMethods holds which methods each path takes (SX-HTTP-01, SX-ERR-39,
// S1-HB-01). The method is judged before anything else: neither credential
// nor size matter.
func TestMethods(t *testing.T) {
	h, _ := serverWith(t, tenants{}, provider{errors.New("must not be asked")})
	huge := strings.Repeat("x", 2<<20)
	for _, path := range keyPaths {
		for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "PROPFIND"} {
			r := ask(t, h, method, path+"?x=y", strings.NewReader(huge), "Authorization", "")
			if r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "POST" {
				t.Errorf("%s %s: %d, Allow %q", method, path, r.StatusCode, r.Header.Get("Allow"))
			}
		}
	}
	for _, path := range []string{"/speke/v1.0/heartbeat", "/speke/heartbeat"} {
		for _, method := range []string{"POST", "PUT", "OPTIONS"} {
			r := ask(t, h, method, path, strings.NewReader(huge))
			if r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d, Allow %q", method, path, r.StatusCode, r.Header.Get("Allow"))
			}
		}
		for _, method := range []string{"GET", "HEAD"} {
			r := ask(t, h, method, path+"?x=y", nil, "Authorization", "", "X-Speke-Version", "")
			if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "text/plain; charset=utf-8" || r.Header.Get("Speke-User-Agent") != "spekeasy/test" {
				t.Errorf("%s %s: %d, %v", method, path, r.StatusCode, r.Header)
			}
			if got := text(t, r); got != "key provider is available\n" {
				t.Errorf("%s %s: %q", method, path, got)
			}
		}
	}
	for _, path := range []string{"/", "/speke", "/speke/v2.0", keyPath + "/", "/speke/v3.0/copyProtection", "/speke/v2.0/heartbeat", "/SPEKE/copyProtection"} {
		if r := ask(t, h, "POST", path, nil); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, r.StatusCode)
		}
	}
}

// TestBodySize holds SX-ERR-40 and its place in the order of checks, which is
// before authentication.
func TestBodySize(t *testing.T) {
	h, _ := serverWith(t, tenants{}, provider{errors.New("must not be asked")})
	const limit = 1 << 20
	for _, c := range []struct {
		name    string
		size    int
		chunked bool
		user    string
		want    int
	}{
		{"at the limit", limit, false, "Basic dGVzdDp0ZXN0", 422},
		{"at the limit, in chunks", limit, true, "Basic dGVzdDp0ZXN0", 422},
		{"above the limit", limit + 1, false, "Basic dGVzdDp0ZXN0", 413},
		{"above the limit, in chunks", limit + 1, true, "Basic dGVzdDp0ZXN0", 413},
		{"at the limit, from nobody", limit, false, "", 401},
		{"above the limit, from nobody", limit + 1, false, "", 413},
		{"above the limit in chunks, from nobody", limit + 1, true, "", 413},
	} {
		var body io.Reader = strings.NewReader(strings.Repeat(" ", c.size))
		if c.chunked {
			body = io.MultiReader(body) // hides the length
		}
		r := ask(t, h, "POST", keyPath, body, "Authorization", c.user)
		if r.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", c.name, r.StatusCode, c.want)
		}
		if c.want == 413 && (text(t, r) != "request body too large" || r.Header.Get("Connection") != "close") {
			t.Errorf("%s: %v", c.name, r.Header)
		}
	}
}

// listen serves a handler on loopback.
func listen(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// talk writes raw HTTP and returns what comes back until the connection ends.
// With hangUp nothing more will be sent, which a server sees.
func talk(t *testing.T, addr string, hangUp bool, parts ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
	}
	if hangUp {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const rawHead = "POST " + keyPath + "?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nauthorization: Basic dGVzdDp0ZXN0\r\n"

// announced is a body that never comes, and notes how much room there is for
// it.
type announced struct{ room int }

func (a *announced) Read(p []byte) (int, error) {
	a.room = max(a.room, len(p))
	return 0, io.ErrUnexpectedEOF
}

// TestAnnouncedBody: who says that a long body is to come does not make us
// keep memory for it.
func TestAnnouncedBody(t *testing.T) {
	h, _ := serverWith(t, tenants{}, provider{})
	body := new(announced)
	r := httptest.NewRequest(http.MethodPost, keyPath, body)
	r.ContentLength = 1 << 20
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest || body.room == 0 || body.room > 128<<10 {
		t.Errorf("%d, room for %d bytes", w.Code, body.room)
	}
}

// TestOverTheWire sends what proxies and encryptors send at the level of
// bytes: header names in any case (SX-HTTP-03), content types or none
// (SX-HTTP-04), chunks, a request for permission to go on, a query, and bodies
// that end too early.
func TestOverTheWire(t *testing.T) {
	h := newTestServer(t, exampleTenant(), fixedKeys{})
	addr := listen(t, h)
	body := string(requestOf(t, "v2-vod-two-keys"))
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	chunked := "Transfer-Encoding: chunked\r\n"
	chunks := fmt.Sprintf("%x\r\n%s\r\n%x;ext=1\r\n%s\r\n0\r\nTrailer: x\r\n\r\n", 100, body[:100], len(body)-100, body[100:])
	for _, c := range []struct {
		name string
		raw  []string
		want string // status line and what must occur
	}{
		{"lower case header", []string{rawHead, "x-speke-version: 2.0\r\n", length, "\r\n", body}, "HTTP/1.1 200 OK"},
		{"mixed case header", []string{rawHead, "X-SPEKE-vErSiOn:2.0 \r\n", length, "\r\n", body}, "HTTP/1.1 200 OK"},
		{"content type with charset", []string{rawHead, "x-speke-version: 2.0\r\ncontent-type: application/xml; charset=utf-8\r\n", length, "\r\n", body}, "HTTP/1.1 200 OK"},
		{"text/xml", []string{rawHead, "x-speke-version: 2.0\r\nContent-Type: text/xml\r\n", length, "\r\n", body}, "HTTP/1.1 200 OK"},
		{"another content type", []string{rawHead, "x-speke-version: 2.0\r\nContent-Type: application/json\r\n", length, "\r\n", body}, "HTTP/1.1 200 OK"},
		{"chunks", []string{rawHead, "x-speke-version: 2.0\r\n", chunked, "\r\n", chunks}, "HTTP/1.1 200 OK"},
		{"100-continue", []string{rawHead, "x-speke-version: 2.0\r\nExpect: 100-continue\r\n", length, "\r\n", body}, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"},
		{"HTTP/1.0", []string{strings.Replace(rawHead, "HTTP/1.1", "HTTP/1.0", 1), "x-speke-version: 2.0\r\n", length, "\r\n", body}, "HTTP/1.0 200 OK"},

		{"100-continue with too much to come", []string{rawHead, "Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n"}, "HTTP/1.1 413"}, // no permission
		{"body cut off", []string{rawHead, "x-speke-version: 2.0\r\n", length, "\r\n", body[:500]}, "HTTP/1.1 400"},
		{"chunks cut off", []string{rawHead, "x-speke-version: 2.0\r\n", chunked, "\r\n", chunks[:500]}, "HTTP/1.1 400"},
		{"malformed chunk", []string{rawHead, "x-speke-version: 2.0\r\n", chunked, "\r\nzz\r\n\r\n"}, "HTTP/1.1 400"},
		{"two versions", []string{rawHead, "x-speke-version: 2.0\r\nX-Speke-Version: 2.1\r\n", length, "\r\n", body}, "HTTP/1.1 422"},
		{"no body", []string{rawHead, "x-speke-version: 2.0\r\n\r\n"}, "HTTP/1.1 422"},
	} {
		got := talk(t, addr, strings.Contains(c.name, "cut off"), c.raw...)
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %.200s", c.name, got)
			continue
		}
		r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(strings.TrimPrefix(got, "HTTP/1.1 100 Continue\r\n\r\n"))), nil)
		if err != nil {
			t.Fatal(err)
		}
		out := text(t, r)
		switch r.StatusCode {
		case 200:
			if r.Header.Get("X-Speke-Version") != "2.0" || r.ContentLength != int64(len(out)) || strings.Count(out, "<pskc:PlainValue>") != 2 {
				t.Errorf("%s: %v", c.name, r.Header)
			}
		case 400:
			if out != "request body could not be read" {
				t.Errorf("%s: %q", c.name, out)
			}
		}
	}
}

// TestAuthentication holds SX-AUTH-08: whatever is wrong with a credential,
// the answer is one and the same, and it comes before version and body are
// looked at.
func TestAuthentication(t *testing.T) {
	ok, _ := serverWith(t, tenants{}, provider{errors.New("must not be asked")})
	gone, _ := serverWith(t, tenants{fmt.Errorf("tenant %q: %w", "example", tenant.ErrNotFound)}, provider{errors.New("must not be asked")})
	type sent struct {
		name, authorization string
		h                   http.Handler
	}
	list := []sent{{"tenant that is gone", "Basic dGVzdDp0ZXN0", gone}}
	for name, value := range map[string]string{
		"nothing": "", "wrong password": "Basic dGVzdDp3cm9uZw==", "unknown user": "Basic bm9ib2R5OnRlc3Q=", "no password": "Basic dGVzdDo=",
		"no colon": "Basic dGVzdA==", "no user": "Basic OnRlc3Q=", "not base64": "Basic ****", "scheme alone": "Basic", "another scheme": "Bearer dGVzdDp0ZXN0",
		"digest": `Digest username="test", realm="x"`, "password in another case": "Basic dGVzdDpURVNU", "nul": "Basic dGVzdDp0ZXN0AA==",
	} {
		list = append(list, sent{name, value, ok})
	}
	var first string
	for _, s := range list {
		for _, version := range []string{"2.0", "9.9", ""} {
			for _, body := range []string{"", "<not xml"} {
				r := ask(t, s.h, "POST", keyPath, strings.NewReader(body), "Authorization", s.authorization, "X-Request-Id", "1", "X-Speke-Version", version)
				if r.StatusCode != http.StatusUnauthorized || r.Header.Get("WWW-Authenticate") != `Basic realm="spekeasy", charset="UTF-8"` {
					t.Errorf("%s: %d, challenge %q", s.name, r.StatusCode, r.Header.Get("WWW-Authenticate"))
				}
				if version != "2.0" {
					continue
				}
				all := fmt.Sprint(r.StatusCode, r.Header) + text(t, r)
				if first == "" {
					first = all
				}
				if all != first {
					t.Errorf("%s: %s\nothers: %s", s.name, all, first)
				}
			}
		}
	}
}

// TestErrorAnswers holds which status and text each error of a part gets, that
// none of its words reach the encryptor, and that all of them reach the log
// with the request ID (SX-ERR-01, -41, S2-ERR-02 to -04, S2-HTTP-13).
func TestErrorAnswers(t *testing.T) {
	const inner = "inner words"
	body := requestOf(t, "v2-vod-two-keys")
	for _, c := range []struct {
		name   string
		tn     tenants
		err    error
		status int
		text   string
	}{
		{"SPEKE refusal", tenants{}, fmt.Errorf(inner+": %w", &speke.Error{Status: 422, Text: "Malformed encryption contract", Cause: errors.New(inner)}), 422, "Malformed encryption contract"},
		{"SPEKE refusal of an upstream", tenants{}, &speke.Error{Status: 502, Text: "bad gateway", Cause: errors.New(inner)}, 502, "bad gateway"},
		{"database down", tenants{}, fmt.Errorf(inner+": %w", keystore.ErrUnavailable), 503, "temporarily unavailable"},
		{"time is up", tenants{}, fmt.Errorf(inner+": %w", context.DeadlineExceeded), 503, "temporarily unavailable"},
		{"client gone", tenants{}, fmt.Errorf(inner+": %w", context.Canceled), 503, "temporarily unavailable"},
		{"keystore closed", tenants{}, fmt.Errorf(inner+": %w", keystore.ErrClosed), 503, "temporarily unavailable"},
		{"damaged record", tenants{}, fmt.Errorf(inner+": %w", keystore.ErrCorrupt), 500, "internal error"},
		{"anything", tenants{}, errors.New(inner), 500, "internal error"},
		{"forbidden", tenants{}, fmt.Errorf(inner+": %w", auth.ErrForbidden), 403, "forbidden"},
		{"tenants unavailable", tenants{fmt.Errorf(inner+": %w", keystore.ErrUnavailable)}, nil, 503, "temporarily unavailable"},
		{"tenants broken", tenants{errors.New(inner)}, nil, 500, "internal error"},
		{"tenant unknown", tenants{fmt.Errorf(inner+": %w", tenant.ErrNotFound)}, nil, 401, "unauthorized"},
	} {
		h, log := serverWith(t, c.tn, provider{c.err})
		r := ask(t, h, "POST", keyPath, bytes.NewReader(body), "X-Request-Id", "id-7")
		if got := text(t, r); r.StatusCode != c.status || got != c.text {
			t.Errorf("%s: %d %q", c.name, r.StatusCode, got)
		}
		want := http.Header{
			"Content-Type": {"text/plain; charset=utf-8"}, "X-Content-Type-Options": {"nosniff"}, "Cache-Control": {"no-store"},
			"X-Speke-User-Agent": {"spekeasy/test"}, "X-Speke-Version": {"2.0"}, "X-Request-Id": {"id-7"},
		}
		for name := range want {
			if r.Header.Get(name) != want.Get(name) {
				t.Errorf("%s: %s is %q", c.name, name, r.Header.Get(name))
			}
		}
		if (c.status == 503) != (r.Header.Get("Retry-After") != "") {
			t.Errorf("%s: Retry-After %q", c.name, r.Header.Get("Retry-After"))
		}
		if !strings.Contains(log.String(), inner) || !strings.Contains(log.String(), "request_id=id-7") {
			t.Errorf("%s: log %s", c.name, log)
		}
	}
}

// TestRequestID holds that every answer has an ID, and that one which came
// from outside is used unless it could harm a log.
func TestRequestID(t *testing.T) {
	h, log := serverWith(t, tenants{}, provider{errors.New("x")})
	seen := make(map[string]bool)
	for sent, keep := range map[string]bool{
		"": false, "abc-123": true, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false,
		"two words": false, "line\nend": false, "naïve": false, "\x7f": false, "~!\"'": true,
	} {
		for _, target := range []string{keyPath, "/speke/heartbeat", "/nowhere"} {
			r := httptest.NewRequestWithContext(t.Context(), "POST", target, nil)
			r.Header["X-Request-Id"] = []string{sent}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			got := w.Header().Get("X-Request-Id")
			switch {
			case keep && got != sent:
				t.Errorf("%q became %q", sent, got)
			case !keep && (len(got) != 16 || seen[got] || got == sent):
				t.Errorf("%q became %q", sent, got)
			}
			seen[got] = !keep
		}
	}
	if strings.Contains(log.String(), "line\nend") {
		t.Error("a request ID broke a line of the log")
	}
}

// TestLogHoldsNoSecrets holds that neither content keys of refused requests
// nor passwords get into the log.
func TestLogHoldsNoSecrets(t *testing.T) {
	const secret = "AAECAwQFBgcICQoLDA0ODw=="
	h, log := serverWith(t, tenants{}, provider{errors.New("x")})
	withKey := strings.Replace(string(requestOf(t, "v2-vod-two-keys")), `commonEncryptionScheme="cenc"/>`,
		`commonEncryptionScheme="cenc"><cpix:Data><pskc:Secret><pskc:PlainValue>`+secret+`</pskc:PlainValue></pskc:Secret></cpix:Data></cpix:ContentKey>`, 1)
	for _, body := range []string{withKey, strings.Replace(withKey, secret, secret+"<", 1), strings.Repeat(secret, 10), strings.ReplaceAll(withKey, "cenc", secret)} {
		if r := ask(t, h, "POST", keyPath, strings.NewReader(body)); r.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%d for %.100s", r.StatusCode, body)
		}
		ask(t, h, "POST", keyPath, strings.NewReader(body), "Authorization", "Basic dGVzdDpzM2NyZXQ=")
	}
	if strings.Count(log.String(), "request refused") != 8 {
		t.Errorf("log %s", log)
	}
	for _, s := range []string{secret, "s3cret", "dGVzdDp", "PlainValue"} {
		if strings.Contains(log.String(), s) {
			t.Errorf("the log holds %q:\n%s", s, log)
		}
	}
}
