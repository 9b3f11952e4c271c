// Command bench measures the key server over HTTP beside a server that reads
// the body and writes a stored answer of the same size: what share of that
// server's requests per second is left when real keys are answered. The two
// take turns, so that a machine whose speed drifts does not decide.
//
// `make bench` runs it on the binary in bin.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
)

var (
	binary      = flag.String("binary", "bin/spekeasy", "the server to measure")
	round       = flag.Duration("round", time.Second, "length of one turn")
	rounds      = flag.Int("rounds", 5, "turns of each server per case")
	connections = flag.Int("connections", 8, "keep-alive connections")
	extra       = flag.String("config", "", "extra lines of the server's configuration")
	only        = flag.String("only", "", "measure only cases whose name contains this")
	stored      = flag.String("stored", "", "serve the stored answer in this file (used by the command itself)")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	if *stored != "" {
		return serveStored(*stored)
	}
	dir, err := os.MkdirTemp("", "spekeasy-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%-34s %8s %8s %10s %10s %7s %7s\n", "request", "in", "out", "other/s", "ours/s", "share", "bar")
	for _, c := range cases() {
		if !strings.Contains(c.name, *only) {
			continue
		}
		if err := c.measure(dir); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// serveStored is the other server: it reads the body and writes one answer.
func serveStored(file string) error {
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("ready http://%s\n", l.Addr())
	length := strconv.Itoa(len(body))
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("Content-Length", length)
		w.Write(body) //nolint:errcheck // the client is gone
	})}
	return srv.Serve(l)
}

// benchCase is one kind of request.
type benchCase struct {
	name    string
	bar     float64
	config  string // extra lines of the configuration
	options encryptor.Options
	fresh   int // every n-th request asks for keys that do not exist yet; 0 for none. It is held against requests for known keys.
}

func cases() []benchCase {
	multi := []string{"fairplay", "widevine", "playready"}
	v1 := encryptor.Options{
		Service: encryptor.MediaConvert, Version: encryptor.V10, ContentID: "bench-1", Packaging: encryptor.DASH,
		Systems: []string{"widevine", "playready"},
	}
	v2 := encryptor.Options{
		Service: encryptor.MediaPackageV2, Version: encryptor.V20, ContentID: "bench-2", Packaging: encryptor.CMAF, Systems: multi,
	}
	ten := v2
	ten.ContentID, ten.VideoPreset, ten.AudioPreset = "bench-10", "PRESET-VIDEO-3", "PRESET-AUDIO-2"
	ten.Periods, ten.Force = []contentkey.Period{{Index: "1"}, {Index: "2"}}, true
	recipient, err := encryptor.NewRecipient(time.Now())
	if err != nil {
		panic(err) // no randomness
	}
	sealed := v2
	sealed.Recipients = []*encryptor.Recipient{recipient}
	return []benchCase{
		{name: "v1, 1 key x 2 systems", bar: 0.70, options: v1},
		{name: "v2, 2 keys x 3 systems", bar: 0.60, options: v2},
		{name: "v2, 10 keys x 3 systems", bar: 0.50, options: ten},
		{name: "v2, encrypted", bar: 0.45, options: sealed},
		{name: "v2, encrypted, fresh document key", bar: 0.20, options: sealed, config: "sealing: {reuse: 0s}\n"},
		{name: "v2, 10 % new keys, to known keys", bar: 0.60, options: v2, fresh: 10},
	}
}

// measure runs one case and prints its row.
func (c *benchCase) measure(dir string) error {
	req, err := c.options.Build()
	if err != nil {
		return err
	}
	ours, stop, err := c.startOurs(dir)
	if err != nil {
		return err
	}
	defer stop()
	answer, err := (&encryptor.Client{URL: ours + path, Auth: encryptor.Basic("bench", "bench")}).Do(context.Background(), req)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "answer")
	if err := os.WriteFile(file, answer.Body(), 0o600); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	other, stopOther, err := start(self, "-stored", file)
	if err != nil {
		return err
	}
	defer stopOther()

	var a, b, share []float64
	for i := range *rounds + 1 {
		known := *c
		if known.fresh = 0; c.fresh > 0 {
			other = ours
		}
		x, err := known.load(other, req)
		if err != nil {
			return err
		}
		y, err := c.load(ours, req)
		if err != nil {
			return err
		}
		if i == 0 {
			continue // warm-up
		}
		a, b, share = append(a, x), append(b, y), append(share, y/x)
	}
	bar := "-"
	if c.bar > 0 {
		bar = strconv.FormatFloat(c.bar, 'f', 2, 64)
	}
	fmt.Printf("%-34s %8d %8d %10.0f %10.0f %7.2f %7s\n", c.name, len(req.Body), len(answer.Body()), median(a), median(b), median(share), bar)
	return nil
}

const path = "/speke/copyProtection"

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// startOurs starts the key server with one tenant on a fresh database.
func (c *benchCase) startOurs(dir string) (url string, stop func(), err error) {
	data, err := os.MkdirTemp(dir, "data-")
	if err != nil {
		return "", nil, err
	}
	config := filepath.Join(data, "config.yaml")
	text := "listen: 127.0.0.1:0\ndata: " + data + "\nlog: {level: error}\n" + c.config + *extra + "\n" +
		"tenants:\n- id: bench\n  drm: {playready: {la_url: \"https://lic.example.com/playready\"}}\n" +
		"  credentials: [{name: bench, basic: {user: bench, password: bench}}]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return "", nil, err
	}
	return start(*binary, "serve", "--config", config)
}

// start runs a server and waits for its line "ready URL".
func start(name string, args ...string) (url string, stop func(), err error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may be gone
		cmd.Wait()                          //nolint:errcheck // its end is all we want
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		stop()
		return "", nil, fmt.Errorf("%s did not get ready", name)
	}
	return url, stop, nil
}

// load sends the request over all connections for one round and returns the
// answers per second.
func (c *benchCase) load(url string, req *encryptor.Request) (float64, error) {
	message := httpMessage(req)
	var wg sync.WaitGroup
	counts := make([]int, *connections)
	errs := make([]error, *connections)
	begin := time.Now()
	end := begin.Add(*round)
	for i := range *connections {
		wg.Go(func() { counts[i], errs[i] = c.connection(strings.TrimPrefix(url, "http://"), message, req, end) })
	}
	wg.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / time.Since(begin).Seconds(), errors.Join(errs...)
}

// httpMessage is the request as it goes over the wire.
func httpMessage(req *encryptor.Request) []byte {
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(req.Body))
	r.Header = req.Header.Clone()
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("bench:bench")))
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		panic(err) // a buffer does not fail
	}
	return b.Bytes()
}

// connection sends message after message over one connection. It is a plain
// loop over bytes, so that the client costs little beside the servers.
func (c *benchCase) connection(addr string, message []byte, req *encryptor.Request, end time.Time) (n int, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 64<<10)
	for ; time.Now().Before(end); n++ {
		out := message
		if c.fresh > 0 && n%c.fresh == 0 {
			out = withNewKIDs(message, req)
		}
		if _, err := conn.Write(out); err != nil {
			return n, err
		}
		if err := skipAnswer(in); err != nil {
			return n, err
		}
	}
	return n, nil
}

// withNewKIDs is the message with key IDs that nobody asked for before.
func withNewKIDs(message []byte, req *encryptor.Request) []byte {
	out := bytes.Clone(message)
	for i := range req.Keys {
		old, kid := []byte(req.Keys[i].KID.String()), uuid()
		for at := 0; ; {
			n := bytes.Index(out[at:], old)
			if n < 0 {
				break
			}
			at += n + copy(out[at+n:], kid)
		}
	}
	return out
}

// uuid returns a random UUID (RFC 9562, version 4), as encryptors make key IDs.
func uuid() string {
	a, b := rand.Uint64(), rand.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0x3fff|0x8000, b&0xffffffffffff)
}

// skipAnswer reads one answer, which must be a 200 with a length.
func skipAnswer(in *bufio.Reader) error {
	status, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answer %q", bytes.TrimSpace(status))
	}
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("an answer without length")
	}
	_, err = in.Discard(length)
	return err
}
