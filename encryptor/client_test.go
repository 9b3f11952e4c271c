package encryptor

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// provider is a key provider that answers the worked examples to a client
// with the right password, and other requests with an error.
func provider(t *testing.T) *httptest.Server {
	t.Helper()
	answers := make(map[string]string, len(workedAnswers))
	for _, name := range workedAnswers {
		answers[string(workedRequest(t, name).Body)] = name
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /speke/copyProtection", func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "dev" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="keys"`)
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(r.Body)
		name := answers[string(body)]
		got := Version(r.Header.Get("X-Speke-Version"))
		if got == "" {
			got = V10
		}
		if err != nil || name == "" || got != version(name) || r.Header.Get("Content-Type") != "application/xml" {
			http.Error(w, "Malformed CPIX document", http.StatusUnprocessableEntity)
			return
		}
		for k, v := range answerHeader(got) {
			w.Header()[k] = v
		}
		_, _ = w.Write(readFile(t, "worked/"+name+".answer.xml"))
	})
	mux.HandleFunc("GET /speke/heartbeat", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "ready\n")
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestDoExchangesWorkedExamples(t *testing.T) {
	s := provider(t)
	c := &Client{URL: s.URL + "/speke/copyProtection", HTTP: s.Client(), Auth: Basic("dev", "secret")}
	for _, name := range workedAnswers {
		t.Run(name, func(t *testing.T) {
			a, err := c.Do(t.Context(), workedRequest(t, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range a.Check() {
				t.Errorf("%v", v)
			}
		})
	}
	for name, o := range workedOptions {
		if strings.HasSuffix(name, "-next") {
			continue
		}
		t.Run("built "+name, func(t *testing.T) {
			r, err := o.Build()
			if err != nil {
				t.Fatal(err)
			}
			a, err := c.Do(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range a.Check() {
				t.Errorf("%v", v)
			}
		})
	}
}

func TestDoTellsTheErrorOfTheKeyProvider(t *testing.T) {
	s := provider(t)
	c := &Client{URL: s.URL + "/speke/copyProtection", Auth: Basic("dev", "secret")}
	_, err := c.Do(t.Context(), workedRequest(t, "v1-rotation-next"))
	e, ok := errors.AsType[*StatusError](err)
	if !ok || e.Status != 422 || e.Text != "Malformed CPIX document" || !strings.HasPrefix(e.ContentType, "text/plain") {
		t.Fatalf("got %#v", err)
	}
	if want := "key provider answered 422: Malformed CPIX document"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	c.Auth = Header("Authorization", "Bearer x")
	if _, err := c.Do(t.Context(), workedRequest(t, "v1-dash")); err == nil || err.Error() != "key provider answered 401: unauthorized" {
		t.Errorf("got %v", err)
	}
	c.Auth = func(*http.Request) error { return errors.New("no token") }
	if _, err := c.Do(t.Context(), workedRequest(t, "v1-dash")); err == nil || err.Error() != "key request credentials: no token" {
		t.Errorf("got %v", err)
	}
}

func TestHeartbeat(t *testing.T) {
	s := provider(t)
	c := &Client{URL: s.URL + "/speke/copyProtection?token=1"}
	if text, err := c.Heartbeat(t.Context()); err != nil || text != "ready" {
		t.Errorf("%q, %v", text, err)
	}
	c.URL = s.URL + "/other/copyProtection"
	if _, err := c.Heartbeat(t.Context()); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("got %v", err)
	}
}

// serve answers every request with f and returns a request and a client.
func serve(t *testing.T, f http.HandlerFunc) (*Request, *Client) {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return workedRequest(t, "v2-dash"), &Client{URL: s.URL + "/speke?token=hunter2"}
}

func TestDoFollowsNoRedirect(t *testing.T) {
	var followed atomic.Bool
	r, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/speke" {
			followed.Store(true)
			return
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	for _, client := range []*http.Client{nil, {}, {CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}} {
		c.HTTP = client
		_, err := c.Do(t.Context(), r)
		if e, ok := errors.AsType[*StatusError](err); !ok || e.Status != http.StatusTemporaryRedirect {
			t.Errorf("got %v", err)
		}
	}
	if followed.Load() {
		t.Error("the redirect was followed")
	}
}

func TestDoLimitsTheAnswer(t *testing.T) {
	body := readFile(t, "worked/v2-dash.answer.xml")
	r, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		_, _ = w.Write(body)
	})
	c.MaxAnswer = int64(len(body))
	if _, err := c.Do(t.Context(), r); err != nil {
		t.Errorf("an answer at the limit: %v", err)
	}
	c.MaxAnswer--
	if _, err := c.Do(t.Context(), r); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an answer beyond the limit: %v", err)
	}
}

func TestDoGivesUpOnASlowKeyProvider(t *testing.T) {
	release := make(chan struct{})
	r, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		_, _ = io.WriteString(w, "<?xml")
		w.(http.Flusher).Flush()
		<-release
	})
	t.Cleanup(func() { close(release) })
	c.Timeout = 50 * time.Millisecond
	_, err := c.Do(t.Context(), r)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Do(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestDoRefusesWhatIsNoAnswer(t *testing.T) {
	body := string(readFile(t, "worked/v2-dash.answer.xml"))
	for _, test := range []struct {
		name, contentType, body string
		status                  int
		want                    string
	}{
		{"error with status 200 (S2-ERR-02)", "text/plain", "Missing CPIX@contentId", 200, `key provider answered 200 with content type "text/plain", want application/xml`},
		{"keys as JSON", "application/json", `{"key":"secret"}`, 200, `key provider answered 200 with content type "application/json", want application/xml`},
		{"no content type", "", body, 200, `key provider answered 200 with content type "", want application/xml`},
		{"status 201", "application/xml", "made", 201, "key provider answered 201: made"},
		{"status 500 without text", "text/plain", "", 500, "key provider answered 500"},
		{"control characters", "text/plain", "a\x1b[31m\r\nlevel=info b\u2028c\u0085d\xff", 500, "key provider answered 500: a [31m  level=info b c d?"},
		{"half a document", "application/xml", body[:1000], 200, "key provider's answer: XML line 10, byte 1000: end of document inside an element"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				if test.contentType != "" {
					w.Header().Set("Content-Type", test.contentType)
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			})
			if _, err := c.Do(t.Context(), r); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	t.Run("long error", func(t *testing.T) {
		r, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, strings.Repeat("é", 1<<16))
		})
		_, err := c.Do(t.Context(), r)
		if e, ok := errors.AsType[*StatusError](err); !ok || len(e.Text) > 4<<10 || !strings.HasSuffix(e.Text, "é") {
			t.Errorf("%v", ok)
		}
	})
	t.Run("body cut off", func(t *testing.T) {
		r, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			w.Header().Set("Content-Length", "5000")
			_, _ = io.WriteString(w, body[:1000])
		})
		if _, err := c.Do(t.Context(), r); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
	})
}

// Tokens can stand in the query of a key provider's URL.
func TestErrorsDoNotShowTheURL(t *testing.T) {
	r := workedRequest(t, "v1-dash")
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	for _, url := range []string{s.URL + "/speke?token=hunter2", "http://%zz/?token=hunter2", "spam://x/?token=hunter2"} {
		c := &Client{URL: url}
		if _, err := c.Do(t.Context(), r); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
		if _, err := c.Heartbeat(t.Context()); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	}
}

// Requests that somebody wrote wrongly can be sent as they are.
func TestSendPostsAnything(t *testing.T) {
	_, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "<no" || r.Header.Get("X-Speke-Version") != "9.9" || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		http.Error(w, "Unsupported SPEKE version", http.StatusUnprocessableEntity)
	})
	res, err := c.Send(t.Context(), http.Header{"X-Speke-Version": {"9.9"}}, []byte("<no"))
	if err != nil || res.Status != 422 || strings.TrimSpace(string(res.Body)) != "Unsupported SPEKE version" {
		t.Errorf("%+v, %v", res, err)
	}
}
