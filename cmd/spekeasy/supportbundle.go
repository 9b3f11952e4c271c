package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spekeasy/internal/app"
	"spekeasy/internal/config"
	"spekeasy/internal/doctor"
)

func newSupportBundle(e *env) *cobra.Command {
	var f operatorFlags
	var out, admin string
	var withoutRows bool
	cmd := &cobra.Command{
		Use:   "support-bundle",
		Short: "Gather what helps to find a fault, without any secret",
		Long: "Write a .tar.gz with the version, the configuration without its secrets, what doctor finds, the files of the\n" +
			"data directory by name and size, and, of a running server, readiness, metrics and stacks. It holds no key,\n" +
			"password or token; it holds names of tenants, credentials and hosts. Read it before you send it.",
		Example: "  spekeasy support-bundle --config spekeasy.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				out = "spekeasy-support-" + time.Now().UTC().Format("20060102-150405") + ".tar.gz"
			}
			b := &bundle{env: e, flags: &f, admin: admin, rows: !withoutRows, now: time.Now()}
			b.gather(cmd.Context())
			if err := b.write(out); err != nil {
				return err
			}
			_, err := fmt.Fprintf(e.stdout, "%s: %s\n", out, count(len(b.files), "file", "files"))
			return err
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&out, "out", "", "`file` to make; by default spekeasy-support-TIME.tar.gz")
	fl.StringVar(&admin, "admin", "", "`URL` of the running server's admin listener; by default as configured")
	fl.BoolVar(&withoutRows, "no-doctor", false, "do not examine the store, which reads every row")
	return cmd
}

// bundle is what is gathered. What cannot be had is told in its place: a
// bundle is wanted when things do not work.
type bundle struct {
	env   *env
	flags *operatorFlags
	admin string
	rows  bool
	now   time.Time

	files   []bundled
	secrets []string // that must not show
}

type bundled struct {
	name string
	text []byte
}

func (b *bundle) add(name string, text []byte, err error) {
	if err != nil {
		text = append(text, "error: "+err.Error()+"\n"...)
	}
	b.files = append(b.files, bundled{name, text})
}

func (b *bundle) gather(ctx context.Context) {
	b.add("version.txt", buildDetails(), nil)
	c, err := b.flags.load(b.env)
	if err == nil {
		b.secrets = c.Secrets()
	}
	if b.flags.config != "" {
		text, readErr := os.ReadFile(b.flags.config)
		if readErr == nil {
			text, readErr = config.Redact(text)
		}
		b.add("config.yaml", text, errors.Join(err, readErr))
	}
	if err != nil {
		return // nothing else is known of the server
	}
	b.add("files.txt", listFiles(c.Data), nil)
	if b.rows {
		text, err := b.doctor(ctx)
		b.add("doctor.txt", text, err)
	}
	for _, q := range []struct{ name, path string }{
		{"readyz.txt", "/readyz"}, {"metrics.txt", "/metrics"},
		{"goroutines.txt", "/debug/pprof/goroutine?debug=1"}, {"heap.txt", "/debug/pprof/heap?debug=1"},
	} {
		text, err := b.ask(ctx, c, q.path)
		b.add(q.name, text, err)
	}
}

// buildDetails tells what runs and on what.
func buildDetails() []byte {
	var t bytes.Buffer
	fmt.Fprintf(&t, "spekeasy %s\n%s %s/%s, %d CPUs\n", fullVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if info, ok := debug.ReadBuildInfo(); ok {
		fmt.Fprintln(&t, info)
	}
	return t.Bytes()
}

// listFiles tells names, sizes and modes. Contents are no business of support.
func listFiles(dir string) []byte {
	var t bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintln(&t, "error:", err)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			fmt.Fprintln(&t, "error:", err)
			return nil
		}
		fmt.Fprintf(&t, "%s %12d %s %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339), path)
		return nil
	})
	if err != nil {
		fmt.Fprintln(&t, "error:", err)
	}
	return t.Bytes()
}

func (b *bundle) doctor(ctx context.Context) ([]byte, error) {
	var t bytes.Buffer
	err := b.flags.operate(ctx, b.env, func(c *config.Config, o *app.Operator) error {
		x := &doctor.Examination{Now: b.now}
		err := examine(ctx, b.env, c, o, x)
		quiet := *b.env
		quiet.stdout = &t
		return errors.Join(printFindings(&quiet, x, false), err)
	})
	return t.Bytes(), err
}

// askTimeout bounds one question to a server that may be stuck, and maxAnswer
// what it answers, in bytes.
const (
	askTimeout = 10 * time.Second
	maxAnswer  = 16 << 20
)

// ask asks the running server.
func (b *bundle) ask(ctx context.Context, c *config.Config, path string) ([]byte, error) {
	base := b.admin
	if base == "" {
		main, err := net.ResolveTCPAddr("tcp", c.Listen)
		if err != nil {
			return nil, err
		}
		address, _ := c.AdminAddress(main)
		if address == "" {
			return nil, errors.New("the admin listener is off")
		}
		base = "http://" + address
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return text, err
}

// shortestSecret is the length below which a secret is not looked for in what
// was gathered: it would be found everywhere by chance.
const shortestSecret = 6

// write writes the archive. Secrets of the configuration that got into it all
// the same are taken out of it.
func (b *bundle) write(path string) (err error) {
	f, err := createFile(path)
	if err != nil {
		return err
	}
	defer f.discard()
	z := gzip.NewWriter(f)
	t := tar.NewWriter(z)
	for _, file := range b.files {
		text := file.text
		for _, secret := range b.secrets {
			if len(secret) >= shortestSecret {
				text = bytes.ReplaceAll(text, []byte(secret), []byte("(secret)"))
			}
		}
		h := &tar.Header{Name: "spekeasy-support/" + file.name, Mode: 0o600, Size: int64(len(text)), ModTime: b.now}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(text); err != nil {
			return err
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return err
	}
	return f.commit()
}
