package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
	"spekeasy/internal/app"
	"spekeasy/internal/config"
	demopage "spekeasy/internal/demo"
	"spekeasy/internal/playback"
)

func newDemo(e *env) *cobra.Command {
	var d demo
	var listen, data string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start a key server, play the encryptors against it, show what they get",
		Long: "Start a key server on a fresh embedded database, play MediaConvert and MediaPackage against it over\n" +
			"HTTP, check every answer, and go on serving until interrupted, a page that plays a clip encrypted with\n" +
			"such keys included. The credential is dev:dev.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.CheckLoopback(listen); err != nil {
				return fmt.Errorf("demo listens on loopback only: %w", err)
			}
			if data == "" {
				dir, err := os.MkdirTemp("", "spekeasy-demo-")
				if err != nil {
					return err
				}
				defer os.RemoveAll(dir)
				data = filepath.Join(dir, "data")
			} else if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("--data %s: the demo wants a directory that does not exist yet", data)
			}
			return d.run(cmd.Context(), e, listen, data)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&d.checkOnly, "check", false, "exit when all is checked, 0 only if everything held")
	f.StringVar(&listen, "listen", "127.0.0.1:0", "`address` and port to listen on; port 0 picks a free one")
	f.StringVar(&data, "data", "", "`directory` to create for the database; by default a temporary one")
	return cmd
}

// demo is one run of `spekeasy demo`.
type demo struct {
	checkOnly bool

	out      io.Writer
	url      string
	failures []string
}

// scene is one key request of the demo.
type scene struct {
	title string
	o     encryptor.Options
	same  bool // ask twice: the answers must be the same
}

// scenes are what the demo plays, in order.
func scenes(now time.Time) ([]scene, error) {
	recipient, err := encryptor.NewRecipient(now)
	if err != nil {
		return nil, err
	}
	period := func(t encryptor.Timing, index uint32) []contentkey.Period {
		start := now.Truncate(5 * time.Minute).Add(time.Duration(index) * 5 * time.Minute)
		p, e := encryptor.NewPeriod(t, index, start, start.Add(5*time.Minute))
		err = errors.Join(err, e)
		return []contentkey.Period{p}
	}
	multiDRM := []string{"fairplay", "widevine", "playready"}
	out := []scene{
		{"MediaConvert, SPEKE 1.0, DASH: one key", encryptor.Options{
			Service: encryptor.MediaConvert, ContentID: "movie-1", Packaging: encryptor.DASH,
			Systems: []string{"widevine", "playready"}, Version: encryptor.V10,
		}, true},
		{"MediaConvert, SPEKE 1.0, HLS: one key, encrypted to the encoder's certificate", encryptor.Options{
			Service: encryptor.MediaConvert, ContentID: "movie-2", Packaging: encryptor.HLS,
			Systems: []string{"fairplay"}, Version: encryptor.V10, Recipients: []*encryptor.Recipient{recipient},
		}, false},
		{"MediaPackage v2, SPEKE 2.0, CMAF: keys for SD, HD and audio", encryptor.Options{
			Service: encryptor.MediaPackageV2, ContentID: "channel-1", Packaging: encryptor.CMAF, Version: encryptor.V20,
			Systems: multiDRM, VideoPreset: "PRESET-VIDEO-2", AudioPreset: "PRESET-AUDIO-1",
		}, true},
	}
	for index := uint32(1); index <= 3; index++ {
		out = append(out, scene{fmt.Sprintf("MediaPackage v2, SPEKE 2.0, key rotation: period %d", index), encryptor.Options{
			Service: encryptor.MediaPackageV2, ContentID: "channel-2", Packaging: encryptor.CMAF, Version: encryptor.V20,
			Systems: []string{"widevine"}, VideoPreset: encryptor.Shared, AudioPreset: encryptor.Shared,
			Periods: period(encryptor.IndexOnly, index),
		}, true})
	}
	out = append(out, scene{"MediaPackage v2, SPEKE 2.1, period with start and end", encryptor.Options{
		Service: encryptor.MediaPackageV2, ContentID: "channel-3", Packaging: encryptor.CMAF, Version: encryptor.V21,
		Systems: multiDRM, Periods: period(encryptor.IndexWithStartEnd, 768),
	}, true})
	return out, err
}

func (d *demo) run(ctx context.Context, e *env, listen, data string) (err error) {
	d.out = e.stdout
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	c := config.Dev(listen, data, "http://"+l.Addr().String())
	log := e.logger(config.Log{Level: c.Log.Level + 4, Format: "text"}) // the table tells the rest
	a, err := app.New(ctx, c, backends(e), userAgent(), log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer func() { err = errors.Join(err, a.Close(context.WithoutCancel(ctx))) }()
	mux := http.NewServeMux()
	mux.Handle("/", a.Handler)
	a.Handler = mux
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- a.Serve(serving, l) }()

	d.url = "http://" + l.Addr().String()
	if err := d.play(ctx, filepath.Base(a.Store.Path)); err != nil {
		return err
	}
	page, err := d.page(ctx, a)
	if err != nil {
		d.fail("the clip: %v", err)
	} else {
		for _, pattern := range page.Patterns() {
			mux.Handle(pattern, page)
		}
		fmt.Fprintf(d.out, "A clip was encrypted with keys from %d more answers, and is there to be played.\n", len(page.Streams))
	}
	fmt.Fprintf(d.out, "Keys are kept in %s, wrapped by data keys that the key in %s wraps.\n", a.Store.Path, a.KEK.Path)
	if len(d.failures) == 0 {
		fmt.Fprintln(d.out, "Everything held.")
	}
	if d.checkOnly {
		stop()
		return errors.Join(<-served, d.verdict())
	}
	fmt.Fprintf(d.out, "\nWatch the clip and the exchange behind it at\n\n  %s/\n\nServing until interrupted (Ctrl-C). Or ask for keys yourself:\n\n  spekeasy request --url %s --basic dev:dev --content my-movie --show-keys\n\n", d.url, d.url)
	return errors.Join(<-served, d.verdict())
}

// page encrypts the clip with keys that it asks for, and returns the page that
// plays it.
func (d *demo) page(ctx context.Context, a *app.App) (*demopage.Demo, error) {
	t, err := a.Config.Tenants[0].Build()
	if err != nil {
		return nil, err
	}
	return demopage.New(ctx, demopage.Options{
		URL: d.url, Version: version, Tenant: t, Secrets: playback.NewSecrets(a.Keystore), Now: time.Now,
		Client: &encryptor.Client{URL: d.url + "/speke/v2.0/copyProtection", Auth: encryptor.Basic("dev", "dev")},
	})
}

func (d *demo) verdict() error {
	if len(d.failures) > 0 {
		return fmt.Errorf("%d checks failed", len(d.failures))
	}
	return nil
}

// fail notes a check that did not hold.
func (d *demo) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	d.failures = append(d.failures, text)
	fmt.Fprintln(d.out, "FAILED:", text)
}

// play sends every request, checks the answers and prints the table; kept is
// where the keys are.
func (d *demo) play(ctx context.Context, kept string) error {
	list, err := scenes(time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "A key server is running at %s on a fresh database.\nThe encryptors ask for keys:\n\n", d.url)
	var t table
	t.row("CONTENT", "KEY ID", "TRACK", "PERIOD", "DRM SYSTEM", "SIGNALED", "KEPT IN")
	values := make(map[contentkey.Value]string)
	keys, checks := 0, 0
	for i := range list {
		s := &list[i]
		answer, err := d.ask(ctx, s)
		if err != nil {
			d.fail("%s: %v", s.title, err)
			continue
		}
		checks++
		t.heading(s.title)
		for j := range answer.Keys {
			k := &answer.Keys[j]
			if other, taken := values[k.Value]; taken {
				d.fail("%s: key ID %s has the key of %s", s.title, k.KID, other)
			}
			values[k.Value] = k.KID.String()
			keys++
			addRows(&t, answer.ContentID, k, kept)
		}
	}
	if err := t.write(d.out); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\n%d content keys in %d answers, each checked against the specification; repeated requests got the same keys.\n", keys, checks)
	return nil
}

// ask sends the request of a scene, twice where it says so, and checks what
// comes back.
func (d *demo) ask(ctx context.Context, s *scene) (*encryptor.Answer, error) {
	req, err := s.o.Build()
	if err != nil {
		return nil, err
	}
	client := &encryptor.Client{URL: d.url + "/speke/v" + string(req.Version) + "/copyProtection", Auth: encryptor.Basic("dev", "dev")}
	answer, err := client.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	for _, v := range answer.Check() {
		if !v.Advice {
			d.fail("%s: %s", s.title, v)
		}
	}
	if s.same {
		again, err := client.Do(ctx, req)
		if err != nil {
			return nil, err
		}
		if string(again.Body()) != string(answer.Body()) {
			d.fail("%s: the same request had another answer (SX-SEQ-16)", s.title)
		}
	}
	return answer, nil
}

// addRows adds a row for each DRM system of a content key.
func addRows(t *table, content string, k *encryptor.Key, kept string) {
	head := []string{content, k.KID.String(), tracksOf(k), periodsOf(k)}
	for _, s := range k.Systems {
		t.row(append(head, s.Name, strings.Join(s.Signaled(), ", "), kept)...)
		head, kept = []string{"", "", "", ""}, ""
	}
}
