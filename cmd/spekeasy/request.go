package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
)

// requestFlags are the flags of `spekeasy request` as they were given.
type requestFlags struct {
	url, basic string
	headers    []string

	o                      encryptor.Options
	service, version, pack string
	kids, ivs, indexes     []string
	timing, start, end     string
	encrypt                bool

	dryRun, raw, json, showKeys bool
}

func newRequest(e *env) *cobra.Command {
	var f requestFlags
	cmd := &cobra.Command{
		Use:   "request --content ID [--url URL] [flags]",
		Short: "Play an encryptor: send a key request, check and print the answer",
		Long: "Build the key request that an AWS service or an on-premises encoder would send, send it to any\n" +
			"SPEKE endpoint, check the answer against the specification and print it. The same flags give\n" +
			"the same request for ever, key IDs included. Exits 1 when the answer breaks a rule.\n\n" +
			"Content keys print masked unless --show-keys is given.",
		Example: "  spekeasy request --content movie --basic dev:dev\n" +
			"  spekeasy request --content channel-7 --service mediapackage-v2 --systems widevine,playready,fairplay --period 6\n" +
			"  spekeasy request --content movie --video-preset PRESET-VIDEO-3 --audio-preset PRESET-AUDIO-2 --json\n" +
			"  spekeasy request --content movie --encrypt --raw\n" +
			"  spekeasy request --content movie --url https://key-server.example/speke --header \"X-Key: secret\"",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), e) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.url, "url", "http://127.0.0.1:8080", "key provider's `URL`; without a path, that of this server's endpoint is added")
	fl.StringVar(&f.basic, "basic", "", "`user:password` for HTTP Basic; $SPEKEASY_BASIC by default, so that it need not stand in the command line")
	fl.StringArrayVar(&f.headers, "header", nil, "extra `header`, \"Name: value\" (repeatable)")
	fl.StringVar(&f.o.ContentID, "content", "", "content `ID`, the resource ID of the service")
	fl.StringVar(&f.service, "service", "mediaconvert", "`service` to imitate: mediaconvert, mediapackage-v1, mediapackage-v1-vod, mediapackage-v2, onprem")
	fl.StringVar(&f.version, "speke", "", "SPEKE `version`: 1.0, 2.0, 2.1; by default what the service uses")
	fl.StringVar(&f.pack, "packaging", "", "`format` to package for: dash, hls, cmaf or smooth; by default cmaf for mediapackage-v2, else dash")
	fl.StringSliceVar(&f.o.Systems, "systems", nil, "DRM `systems`, comma separated: "+strings.Join(encryptor.SystemNames(), ", ")+", or UUIDs")
	fl.StringVar(&f.o.Scheme, "scheme", "", "common encryption `scheme`: cenc, cbcs, cbc1")
	fl.StringVar(&f.o.VideoPreset, "video-preset", "", "`preset` of the video keys: PRESET-VIDEO-1 to -8, SHARED or UNENCRYPTED")
	fl.StringVar(&f.o.AudioPreset, "audio-preset", "", "`preset` of the audio keys: PRESET-AUDIO-1 to -3, SHARED or UNENCRYPTED")
	fl.StringArrayVar(&f.indexes, "period", nil, "`index` of a key period (repeatable)")
	fl.StringVar(&f.timing, "period-timing", "", "`way` to tell key periods: INDEX_ONLY, START_END_ONLY or INDEX_WITH_START_END")
	fl.StringVar(&f.start, "period-start", "", "`time` at which the first period starts, such as 2026-01-01T00:00:00Z")
	fl.StringVar(&f.end, "period-end", "", "`time` at which it ends; the others follow at the same length")
	fl.StringArrayVar(&f.kids, "kid", nil, "`key ID` for a track, in order (repeatable); by default derived from the content")
	fl.StringArrayVar(&f.ivs, "iv", nil, "explicit `IV` in base64, one for all keys or one for each, in order (repeatable)")
	fl.BoolVar(&f.encrypt, "encrypt", false, "ask for encrypted content keys with a throw-away certificate, decrypt them and verify their MACs")
	fl.BoolVar(&f.o.Force, "force", false, "send combinations that no service sends")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the request and do not send it")
	fl.BoolVar(&f.raw, "raw", false, "print the answer as XML")
	fl.BoolVar(&f.json, "json", false, "print the answer as JSON")
	fl.BoolVar(&f.showKeys, "show-keys", false, "print content keys in clear")
	cmd.MarkFlagsMutuallyExclusive("raw", "json")
	return cmd
}

func (f *requestFlags) run(ctx context.Context, e *env) error {
	if err := f.options(time.Now()); err != nil {
		return err
	}
	req, err := f.o.Build()
	if err != nil {
		return err
	}
	if f.dryRun {
		_, err := fmt.Fprintf(e.stdout, "%s\n", req.Body)
		return err
	}
	client, err := f.client(e, req.Version)
	if err != nil {
		return err
	}
	answer, err := client.Do(ctx, req)
	if err != nil {
		return err
	}
	found := answer.Check()
	switch {
	case f.raw:
		_, err = fmt.Fprintf(e.stdout, "%s\n", rawAnswer(answer, f.showKeys))
	case f.json:
		err = printJSON(e.stdout, answer, found, f.showKeys)
	default:
		err = printAnswer(e.stdout, answer, f.showKeys)
	}
	if err != nil {
		return err
	}
	return report(e, found)
}

// report prints what an answer breaks; advice does not fail it.
func report(e *env, found []encryptor.Violation) error {
	failed := 0
	for _, v := range found {
		kind := "breaks"
		if v.Advice {
			kind = "advice"
		} else {
			failed++
		}
		fmt.Fprintf(e.stderr, "%s %s\n", kind, v)
	}
	if failed > 0 {
		return fmt.Errorf("the answer breaks %d rules", failed)
	}
	return nil
}

// options completes the encryptor's options from the flags that need reading.
func (f *requestFlags) options(now time.Time) error {
	o := &f.o
	o.Service, o.Version, o.Packaging = encryptor.Service(f.service), encryptor.Version(f.version), encryptor.Packaging(f.pack)
	for _, text := range f.kids {
		kid, err := contentkey.ParseKID(text)
		if err != nil {
			return fmt.Errorf("--kid %q: %w", text, err)
		}
		o.KIDs = append(o.KIDs, kid)
	}
	for _, text := range f.ivs {
		iv, err := contentkey.ParseIV(text)
		if err != nil {
			return fmt.Errorf("--iv %q: %w", text, err)
		}
		o.IVs = append(o.IVs, iv)
	}
	if f.encrypt {
		r, err := encryptor.NewRecipient(now)
		if err != nil {
			return err
		}
		o.Recipients = []*encryptor.Recipient{r}
	}
	return f.periods()
}

// periods makes the key periods: one per --period, with times when those are
// asked for.
func (f *requestFlags) periods() error {
	timing := encryptor.Timing(f.timing)
	if timing == "" {
		timing = encryptor.IndexOnly
		if f.start != "" {
			timing = encryptor.IndexWithStartEnd
		}
	}
	if len(f.indexes) == 0 && f.start != "" {
		f.indexes = []string{"0"}
	}
	var start, end time.Time
	if timing != encryptor.IndexOnly {
		var err error
		if start, err = time.Parse(time.RFC3339, f.start); err != nil {
			return fmt.Errorf("--period-start %q: not a time such as 2026-01-01T00:00:00Z", f.start)
		}
		if end, err = time.Parse(time.RFC3339, f.end); err != nil {
			return fmt.Errorf("--period-end %q: not a time such as 2026-01-01T00:05:00Z", f.end)
		}
	}
	length := end.Sub(start)
	for i, text := range f.indexes {
		var index uint32
		if _, err := fmt.Sscanf(text, "%d", &index); err != nil || fmt.Sprint(index) != text {
			return fmt.Errorf("--period %q: not an index from 0 to 4294967295", text)
		}
		shift := time.Duration(i) * length
		p, err := encryptor.NewPeriod(timing, index, start.Add(shift), end.Add(shift))
		if err != nil {
			return err
		}
		f.o.Periods = append(f.o.Periods, p)
	}
	return nil
}

// client builds the client from URL and credentials.
func (f *requestFlags) client(e *env, version encryptor.Version) (*encryptor.Client, error) {
	u, err := url.Parse(f.url)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("--url: not an http or https URL")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/speke/v" + string(version) + "/copyProtection"
	}
	basic := f.basic
	if basic == "" {
		basic, _ = e.lookup("SPEKEASY_BASIC")
	}
	var auth []func(*http.Request) error
	if basic != "" {
		user, password, ok := strings.Cut(basic, ":")
		if !ok {
			return nil, errors.New("--basic: want user:password")
		}
		auth = append(auth, encryptor.Basic(user, password))
	}
	for _, h := range f.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return nil, errors.New("--header: want \"Name: value\"")
		}
		auth = append(auth, encryptor.Header(strings.TrimSpace(name), strings.TrimSpace(value)))
	}
	return &encryptor.Client{URL: u.String(), Auth: func(r *http.Request) error {
		for _, add := range slices.All(auth) {
			if err := add(r); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}
