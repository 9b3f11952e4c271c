package rest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/kmstest"
	"spekeasy/internal/kms/rest"
)

type service struct {
	kmstest.Faults
	url string
}

func start(t *testing.T) *service {
	s := &service{}
	srv := httptest.NewServer(s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"token":"` + r.Header.Get("Token") + `"}`))
	})))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func client(h *http.Client) *rest.Client {
	return &rest.Client{HTTP: rest.HTTPClient(h), Words: func(a rest.Answer) string { return string(a.Body) }}
}

func (s *service) get(ctx context.Context) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
}

func TestTransientFaultsAreRepeated(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"throttled":               kmstest.Answer(429, "slow down"),
		"throttled with a time":   kmstest.RetryAfter(1),
		"server error":            kmstest.Answer(500, ""),
		"bad gateway":             kmstest.Answer(502, "<html>"),
		"unavailable":             kmstest.Answer(503, ""),
		"connection closed":       kmstest.HangUp,
		"body cut off":            kmstest.CutOff,
		"time asked is not usual": kmstest.RetryAfter(-1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.Next(fault)
			a, err := client(nil).Do(t.Context(), s.get)
			if err != nil || a.Status != 200 || s.Seen() < 2 {
				t.Errorf("status %d, error %v after %d requests; want the second to be answered", a.Status, err, s.Seen())
			}
		})
	}
}

func TestLastingFaultsAreUnavailable(t *testing.T) {
	for name, c := range map[string]struct {
		fault    http.HandlerFunc
		requests int
	}{
		"server error": {kmstest.Answer(503, "down for\x1b[31m maintenance\n"), 4},
		"huge body":    {kmstest.Huge, 1},
		"redirect":     {kmstest.Redirect("https://elsewhere.example/x"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.Next(c.fault, c.fault, c.fault, c.fault, c.fault)
			_, err := client(nil).Do(t.Context(), s.get)
			if !errors.Is(err, kms.ErrUnavailable) {
				t.Fatalf("error %v, want %v", err, kms.ErrUnavailable)
			}
			if s.Seen() != c.requests {
				t.Errorf("%d requests, want %d", s.Seen(), c.requests)
			}
			if strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("control characters of the server reach the log: %q", err)
			}
		})
	}
}

func TestRefusalsAreNotRepeated(t *testing.T) {
	s := start(t)
	s.Next(kmstest.Answer(403, "no"))
	a, err := client(nil).Do(t.Context(), s.get)
	if err != nil || a.Status != 403 || s.Seen() != 1 {
		t.Errorf("status %d, error %v after %d requests", a.Status, err, s.Seen())
	}
}

func TestNobodyListens(t *testing.T) {
	s := &service{url: "http://127.0.0.1:1"}
	_, err := client(nil).Do(t.Context(), s.get)
	if !errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("error %v, want unavailable with the address", err)
	}
}

func TestSlowServer(t *testing.T) {
	t.Run("client timeout", func(t *testing.T) {
		s := start(t)
		s.Next(kmstest.Slow)
		a, err := client(&http.Client{Timeout: 50 * time.Millisecond}).Do(t.Context(), s.get)
		if err != nil || a.Status != 200 {
			t.Errorf("status %d, error %v; want the repetition to be answered", a.Status, err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		s := start(t)
		s.Next(kmstest.Slow)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := client(nil).Do(ctx, s.get)
		if !errors.Is(err, kms.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want unavailable and deadline exceeded", err)
		}
	})
	t.Run("deadline in a pause", func(t *testing.T) {
		s := start(t)
		s.Next(kmstest.RetryAfter(4))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		begin := time.Now()
		_, err := client(nil).Do(ctx, s.get)
		if !errors.Is(err, kms.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 2*time.Second {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
	})
	t.Run("cancelled in a pause", func(t *testing.T) {
		s := start(t)
		s.Next(kmstest.RetryAfter(4))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		_, err := client(nil).Do(ctx, s.get)
		if !errors.Is(err, context.Canceled) || errors.Is(err, kms.ErrUnavailable) {
			t.Errorf("error %v, want only cancelled", err)
		}
	})
}

func TestAnswerThatIsNotJSON(t *testing.T) {
	var v any
	err := rest.Answer{Status: 200, Body: []byte("<html>secret")}.Decode(&v)
	if !errors.Is(err, kms.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v, want unavailable without the body", err)
	}
}

// TestBodyIsCleared holds that neither a data key nor the words of a refusal
// stay in the memory of an answer.
func TestBodyIsCleared(t *testing.T) {
	refused := errors.New("refused")
	for status, want := range map[int]error{200: nil, 403: refused} {
		a := rest.Answer{Status: status, Body: []byte(`"plaintext"`)}
		var out, words string
		err := a.Into(&out, func(a rest.Answer) error {
			words = string(a.Body)
			return refused
		})
		if !errors.Is(err, want) || out+words == "" {
			t.Errorf("%d: %v, read %q and %q", status, err, out, words)
		}
		if strings.Trim(string(a.Body), "\x00") != "" {
			t.Errorf("%d: the body is still there: %q", status, a.Body)
		}
	}
}

func TestTokenIsFetchedOnceUntilItExpires(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	fetched := 0
	token := rest.NewToken(func() time.Time { return now }, func(context.Context) (string, time.Duration, error) {
		fetched++
		return strings.Repeat("t", fetched), 10 * time.Minute, nil
	})
	s := start(t)
	ask := func() string {
		t.Helper()
		a, err := client(nil).DoWith(t.Context(), token, 401, func(ctx context.Context, value string) (*http.Request, error) {
			req, err := s.get(ctx)
			req.Header.Set("Token", value)
			return req, err
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(a.Body)
	}
	for _, step := range []struct {
		after time.Duration
		want  string
	}{
		{0, `{"token":"t"}`},
		{8 * time.Minute, `{"token":"t"}`},
		{61 * time.Second, `{"token":"tt"}`}, // within a minute of its end
		{0, `{"token":"tt"}`},
	} {
		now = now.Add(step.after)
		if got := ask(); got != step.want {
			t.Errorf("after %v: %s, want %s", step.after, got, step.want)
		}
	}

	s.Next(kmstest.Answer(401, ""))
	if got := ask(); got != `{"token":"ttt"}` {
		t.Errorf("after a refusal: %s, want a third token", got)
	}
}

func TestTokenThatStaysRefused(t *testing.T) {
	fetched := 0
	token := rest.NewToken(time.Now, func(context.Context) (string, time.Duration, error) {
		fetched++
		return "t", 0, nil
	})
	s := start(t)
	s.Next(kmstest.Answer(401, ""), kmstest.Answer(401, ""), kmstest.Answer(401, ""))
	a, err := client(nil).DoWith(t.Context(), token, 401, func(ctx context.Context, _ string) (*http.Request, error) { return s.get(ctx) })
	if err != nil || a.Status != 401 || fetched != 2 || s.Seen() != 2 {
		t.Errorf("status %d, error %v, %d fetches, %d requests; want 401 after 2 and 2", a.Status, err, fetched, s.Seen())
	}
}

func TestWaitingForAnotherCallersToken(t *testing.T) {
	release := make(chan struct{})
	started := make(chan struct{})
	token := rest.NewToken(time.Now, func(context.Context) (string, time.Duration, error) {
		close(started)
		<-release
		return "t", 0, nil
	})
	s := start(t)
	ask := func(ctx context.Context) error {
		_, err := client(nil).DoWith(ctx, token, 401, func(ctx context.Context, _ string) (*http.Request, error) { return s.get(ctx) })
		return err
	}
	first := make(chan error)
	go func() { first <- ask(t.Context()) }()
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ask(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled waiter: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := ask(ctx); !errors.Is(err, kms.ErrUnavailable) {
		t.Errorf("waiter whose deadline passed: %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestEndpoint(t *testing.T) {
	for raw, want := range map[string]string{
		"https://kms.example":            "https://kms.example",
		"https://kms.example:8443/":      "https://kms.example:8443",
		"https://kms.example/a/b":        "https://kms.example/a/b",
		"http://127.0.0.1:8080":          "http://127.0.0.1:8080",
		"http://[::1]:8080":              "http://[::1]:8080",
		"http://localhost":               "http://localhost",
		"http://kms.example":             "",
		"http://10.0.0.1":                "",
		"http://localhost.evil.example":  "",
		"ftp://kms.example":              "",
		"https://user:pw@kms.example":    "",
		"https://kms.example/?token=abc": "",
		"https://kms.example/#x":         "",
		"kms.example":                    "",
		"":                               "",
		"https://":                       "",
		"https://kms.example\n.evil":     "",
	} {
		got, err := rest.Endpoint(raw)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("Endpoint(%q) = %q, %v; want %q", raw, got, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "pw") || strings.Contains(err.Error(), "abc")) {
			t.Errorf("Endpoint(%q): error shows a credential: %v", raw, err)
		}
	}
}
