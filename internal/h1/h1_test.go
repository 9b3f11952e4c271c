package h1_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/h1"
)

const maxBody = 100 << 10

// start serves a handler behind a listener of this package, and returns its
// address.
func start(t *testing.T, srv *http.Server) (addr string, l *h1.Listener) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if srv.ErrorLog == nil {
		srv.ErrorLog = log.New(io.Discard, "", 0)
	}
	l = h1.Listen(inner, srv, maxBody)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		srv.Shutdown(ctx) //nolint:errcheck // connections that a test left open
		l.Drain(ctx)      //nolint:errcheck // the same
		if err := <-served; !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return inner.Addr().String(), l
}

// startPlain serves it by net/http alone.
func startPlain(t *testing.T, srv *http.Server) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv.ErrorLog = log.New(io.Discard, "", 0)
	go srv.Serve(l) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

// client is a connection whose bytes a test chooses.
type client struct {
	t  *testing.T
	c  net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.c, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads one answer with its body.
func (c *client) answer() (r *http.Response, body string) {
	c.t.Helper()
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return r, string(b)
}

// ended waits for the server to close the connection.
func (c *client) ended() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); len(rest) > 0 || errors.Is(err, context.DeadlineExceeded) {
		c.t.Fatalf("%q, %v", rest, err)
	}
}

func post(path, body string, headers ...string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: keys.example.com\r\n%sContent-Length: %d\r\n\r\n%s",
		path, strings.Join(append(headers, ""), "\r\n"), len(body), body)
}

// echo answers with all that a handler sees of a request.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	names := make([]string, 0, len(r.Header))
	for name := range r.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprintf(w, "%s %s %s %d.%d %q %q %d %v %v\n", r.Method, r.URL, r.Proto, r.ProtoMajor, r.ProtoMinor,
		r.Host, r.RequestURI, r.ContentLength, r.TransferEncoding, r.Close)
	fmt.Fprintf(w, "%q %q %q\n", r.URL.Path, r.URL.RawPath, r.URL.RawQuery)
	for _, name := range names {
		fmt.Fprintf(w, "%s: %q\n", name, r.Header[name])
	}
	fmt.Fprintf(w, "%q %v", body, err)
}

// exchange sends text over a connection of its own and returns the answers
// that come until the server closes it. The server sees the end of what the
// client sends, or waits.
func exchange(t *testing.T, addr, text string, wait bool) string {
	t.Helper()
	c := dial(t, addr)
	c.send(text)
	if !wait {
		if err := c.c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	var all strings.Builder
	for {
		r, err := http.ReadResponse(c.in, nil)
		if err != nil {
			fmt.Fprint(&all, "end: ", strings.Contains(err.Error(), "EOF"))
			return all.String()
		}
		body, err := io.ReadAll(r.Body)
		if r.Header["Date"] != nil {
			r.Header.Set("Date", "now")
		}
		r.Header.Del("Content-Length") // or chunks
		fmt.Fprintf(&all, "%s %s %v %q %q %v\n", r.Proto, r.Status, r.Close, r.Header, address.ReplaceAll(body, nil), err)
	}
}

var address = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

// TestLikeNetHTTP is that nobody can tell the two apart, be the request plain
// or not.
func TestLikeNetHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo/{rest...}", echo)
	mux.HandleFunc("GET /echo/{rest...}", echo)
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "short")
	})
	mux.HandleFunc("/none", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
			t.Errorf("a body with 204: %v", err)
		}
	})
	mux.HandleFunc("/nothing", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/error", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) })
	mux.HandleFunc("/split", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Text", "one\r\nSet-Cookie: two")
		w.Header()["X-Bad\r\nName"] = []string{"v"}
		w.Header()["X-Trim"] = []string{" \t v \t"}
		w.Header()["X-Many"] = []string{"1", "2"}
		w.Header()["Content-Type"] = nil
		io.WriteString(w, "<html>")
	})
	mux.HandleFunc("/sniff", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") })
	mux.HandleFunc("/close", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		io.WriteString(w, "bye")
	})
	mux.HandleFunc("/twice", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		w.WriteHeader(http.StatusNotFound)
		w.Header().Set("X-Late", "1")
		io.WriteString(w, "a")
		io.WriteString(w, "b")
	})
	mux.HandleFunc("/unread", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "did not look") })
	mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	ours, _ := start(t, &http.Server{Handler: mux, MaxHeaderBytes: 64 << 10})
	theirs := startPlain(t, &http.Server{Handler: mux, MaxHeaderBytes: 64 << 10})

	big := strings.Repeat("x", maxBody)
	requests := map[string]string{
		"plain":                post("/echo/a?b=c%20d", "<cpix/>", "Content-Type: application/xml", "x-speke-version: 2.0", "Connection: Keep-Alive"),
		"two":                  post("/echo/1", "one") + post("/echo/2", "two"),
		"two, the second long": post("/echo/1", "one") + post("/echo/2", big),
		"plain, then not":      post("/echo/1", "one") + "GET /echo/2 HTTP/1.1\r\nHost: h\r\n\r\n" + post("/echo/3", "three"),
		"empty body":           post("/echo/", ""),
		"longest body":         post("/echo/", big),
		"longer body":          post("/echo/", big+"x"),
		"query only":           post("/?a", "x"),
		"escaped path":         post("/echo/a%2fb//c/../d;e", "x"),
		"bad escape":           post("/echo/%zz", "x"),
		"blank in target":      post("/echo/ a", "x"),
		"fragment":             post("/echo/#a", "x"),
		"two slashes":          post("//echo/a", "x"),
		"absolute target":      post("http://other.example.com/echo/a", "x"),
		"star":                 post("*", "x"),
		"target beyond ASCII":  post("/echo/ä", "x"),
		"no target":            "POST HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
		"GET":                  "GET /echo/a HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET with body":        "GET /echo/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
		"lower case method":    strings.Replace(post("/echo/", "x"), "POST", "post", 1),
		"HTTP/1.0":             strings.Replace(post("/echo/", "x"), "HTTP/1.1", "HTTP/1.0", 1),
		"HTTP/1.2":             strings.Replace(post("/echo/", "x"), "HTTP/1.1", "HTTP/1.2", 1),
		"HTTP/2 preface":       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"chunks":               "POST /echo/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
		"chunks and a length":  "POST /echo/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n1\r\nx\r\n0\r\n\r\n",
		"trailer":              post("/echo/", "x", "Trailer: X-A"),
		"expect":               post("/echo/", "x", "Expect: 100-continue"),
		"upgrade":              post("/echo/", "x", "Connection: Upgrade", "Upgrade: websocket"),
		"connection close":     post("/echo/", "x", "Connection: close") + post("/echo/", "y"),
		"pragma":               post("/echo/", "x", "Pragma: no-cache"),
		"no length":            "POST /echo/ HTTP/1.1\r\nHost: h\r\n\r\n",
		"two lengths":          post("/echo/", "x", "Content-Length: 1"),
		"two other lengths":    post("/echo/", "x", "Content-Length: 5"),
		"list of lengths":      "POST /echo/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\nx",
		"length with a sign":   "POST /echo/ HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\nx",
		"length beyond int":    "POST /echo/ HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\nx",
		"length in hex":        "POST /echo/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0x1\r\n\r\nx",
		"empty length":         "POST /echo/ HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n",
		"length with zeroes":   "POST /echo/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0001\r\n\r\nx",
		"no host":              "POST /echo/ HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
		"empty host":           "POST /echo/ HTTP/1.1\r\nHost:\r\nContent-Length: 1\r\n\r\nx",
		"two hosts":            post("/echo/", "x", "Host: other"),
		"odd host":             "POST /echo/ HTTP/1.1\r\nHost: a/b@c\r\nContent-Length: 1\r\n\r\nx",
		"bad host":             "POST /echo/ HTTP/1.1\r\nHost: a b\r\nContent-Length: 1\r\n\r\nx",
		"address as host":      "POST /echo/ HTTP/1.1\r\nHost: [::1]:8080\r\nContent-Length: 1\r\n\r\nx",
		"blank before colon":   post("/echo/", "x", "X-A : 1"),
		"folded header":        post("/echo/", "x", "X-A: 1\r\n  2"),
		"first header folded":  "POST /echo/ HTTP/1.1\r\n Host: h\r\nContent-Length: 1\r\n\r\nx",
		"header without colon": post("/echo/", "x", "X-A"),
		"empty header name":    post("/echo/", "x", ": 1"),
		"header beyond ASCII":  post("/echo/", "x", "X-A: ä"),
		"control in a header":  post("/echo/", "x", "X-A: a\x01b"),
		"tab in a header":      post("/echo/", "x", "X-A:\ta\tb\t"),
		"NUL in a header":      post("/echo/", "x", "X-A: a\x00b"),
		"bare CR in a header":  post("/echo/", "x", "X-A: a\rb"),
		"bare LF":              strings.ReplaceAll(post("/echo/", "x"), "\r\n", "\n"),
		"mixed line ends":      "POST /echo/ HTTP/1.1\nHost: h\r\nContent-Length: 1\r\n\r\nx",
		"LF in the middle":     post("/echo/", "x", "X-A: 1\nX-B: 2"),
		"same header twice":    post("/echo/", "x", "X-A: 1", "X-A: 2", "x-a: 3"),
		"token of all kinds":   post("/echo/", "x", "x!#$%&'*+-.^_`|~9: 1"),
		"many headers":         post("/echo/", "x", slices.Repeat([]string{"X-A: 1"}, 100)...),
		"long headers":         post("/echo/", "x", "X-A: "+strings.Repeat("y", 20<<10)),
		"much too long header": post("/echo/", "x", "X-A: "+strings.Repeat("y", 200<<10)),
		"empty line before":    "\r\n" + post("/echo/", "x"),
		"garbage":              "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
		"unknown path":         post("/nowhere", "x"),
		"other method":         strings.Replace(post("/echo/", "x"), "POST", "PUT", 1),
		"split":                post("/split", "x"),
		"sniffed type":         post("/sniff", "x"),
		"handler closes":       post("/close", "x") + post("/echo/", "y"),
		"status":               post("/twice", "x"),
		"error":                post("/error", "x"),
		"no body":              post("/none", "x"),
		"nothing":              post("/nothing", "x"),
		"shorter than told":    post("/short", "x") + post("/echo/", "y"),
		"body unread":          post("/unread", "x") + post("/echo/", "y"),
		"abort":                post("/abort", "x"),
		"body breaks off":      "POST /echo/ HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nx",
		"head breaks off":      "POST /echo/ HTTP/1.1\r\nHost: h\r\nContent-Le",
		"nothing at all":       "",
	}
	for name, text := range requests {
		t.Run(name, func(t *testing.T) {
			want, got := exchange(t, theirs, text, false), exchange(t, ours, text, false)
			if got != want {
				t.Errorf("got\n%.3000q\nnet/http answers\n%.3000q", got, want)
			}
		})
	}
}

// TestPieces is a request that comes byte by byte, and one whose end comes
// with the beginning of the next.
func TestPieces(t *testing.T) {
	addr, _ := start(t, &http.Server{Handler: http.HandlerFunc(echo)})
	c := dial(t, addr)
	text := post("/echo/1", "one", "X-A: 1")
	for i := range len(text) {
		c.send(text[i : i+1])
	}
	if _, body := c.answer(); !strings.Contains(body, `"one" <nil>`) {
		t.Error(body)
	}
	big := strings.Repeat("0123456789", maxBody/10)
	all := strings.Repeat(post("/echo/2", "two")+post("/echo/3", big), 5)
	go func() {
		for len(all) > 0 {
			n := min(len(all), 7777)
			io.WriteString(c.c, all[:n])
			all = all[n:]
		}
	}()
	for range 5 {
		if _, body := c.answer(); !strings.HasSuffix(body, `"two" <nil>`) {
			t.Fatal(body)
		}
		if _, body := c.answer(); !strings.HasSuffix(body, fmt.Sprintf("%q <nil>", big)) {
			t.Fatalf("%.1000s", body)
		}
	}
}

// TestAnswerAtOnce is an answer that is written as it is, without a copy.
func TestAnswerAtOnce(t *testing.T) {
	answer := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	addr, _ := start(t, &http.Server{WriteTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Length"] = []string{fmt.Sprint(len(answer))}
		if n, err := w.Write(answer); n != len(answer) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrContentLength) {
			t.Error(err)
		}
	})})
	for range 3 {
		c := dial(t, addr)
		c.send(post("/", "x"))
		if r, body := c.answer(); body != string(answer) || r.Header.Get("Date") == "" {
			t.Fatal(r)
		}
	}
}

// TestSameBytes: the same answer is the same bytes, whatever order a map has.
func TestSameBytes(t *testing.T) {
	addr, _ := start(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range []string{"D", "B", "A", "C", "F", "E"} {
			w.Header().Set(name, "1")
		}
		w.Header().Set("Date", "now")
		io.WriteString(w, "body")
	})})
	const want = "HTTP/1.1 200 OK\r\nA: 1\r\nB: 1\r\nC: 1\r\nContent-Length: 4\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"D: 1\r\nDate: now\r\nE: 1\r\nF: 1\r\n\r\nbody"
	c := dial(t, addr)
	for range 20 {
		c.send(post("/", "x"))
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c.in, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// TestTooLong is a handler that writes more than it announced: whoever reads
// its answer does not take the rest for another one.
func TestTooLong(t *testing.T) {
	addr, _ := start(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusContinue) // nobody waits for it
		w.Header().Set("Content-Length", "4")
		io.WriteString(w, "a")
		if _, err := io.WriteString(w, "too long"); !errors.Is(err, http.ErrContentLength) {
			t.Error(err)
		}
	})})
	c := dial(t, addr)
	c.send(post("/", "x"))
	if r, err := http.ReadResponse(c.in, nil); err != nil || !r.Close || r.ContentLength != 4 {
		t.Error(r, err)
	}
	if rest, err := io.ReadAll(c.in); string(rest) != "a" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

// TestTimeouts are clients that do not go on: they get what net/http gives
// them.
func TestTimeouts(t *testing.T) {
	const short, long = 100 * time.Millisecond, time.Hour
	head := http.Server{ReadHeaderTimeout: short, ReadTimeout: long, IdleTimeout: long}
	body := http.Server{ReadHeaderTimeout: long, ReadTimeout: short, IdleTimeout: long}
	for name, c := range map[string]struct {
		timeouts *http.Server
		text     string
	}{
		"never begins":             {&head, ""},
		"within the head":          {&head, "POST / HTTP/1.1\r\nHo"},
		"within the second head":   {&head, post("/", "x") + "POST / HTTP/1.1\r\nHo"},
		"within the body":          {&body, strings.TrimSuffix(post("/", "xyz"), "z")},
		"within the second body":   {&body, post("/", "x") + strings.TrimSuffix(post("/", "xyz"), "z")},
		"idle":                     {&http.Server{ReadHeaderTimeout: long, ReadTimeout: long, IdleTimeout: short}, post("/", "x") + post("/", "y")},
		"idle, as long as reading": {&http.Server{ReadTimeout: short}, post("/", "x")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := func() *http.Server {
				return &http.Server{
					Handler: http.HandlerFunc(echo), ReadHeaderTimeout: c.timeouts.ReadHeaderTimeout,
					ReadTimeout: c.timeouts.ReadTimeout, IdleTimeout: c.timeouts.IdleTimeout,
				}
			}
			addr, _ := start(t, server())
			began := time.Now()
			got := exchange(t, addr, c.text, true)
			if took := time.Since(began); took < short/2 {
				t.Errorf("the server waited for %v only", took)
			}
			if want := exchange(t, startPlain(t, server()), c.text, true); got != want {
				t.Errorf("got\n%s\nnet/http answers\n%s", got, want)
			}
		})
	}
}

// TestSlowReader is a client that does not read its answer.
func TestSlowReader(t *testing.T) {
	failed := make(chan error, 1)
	answer := make([]byte, 64<<20)
	addr, _ := start(t, &http.Server{WriteTimeout: 100 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Length"] = []string{fmt.Sprint(len(answer))}
		_, err := w.Write(answer)
		failed <- err
	})})
	c := dial(t, addr)
	c.send(post("/", "x"))
	var e net.Error
	if err := <-failed; !errors.As(err, &e) || !e.Timeout() {
		t.Error(err)
	}
}
