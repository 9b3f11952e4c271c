// Package demo is the page that `spekeasy demo` serves: a clip, encrypted with
// keys that a SPEKE answer brought, that plays in the visitor's browser, and
// beside it the exchange that the keys came from, taken apart.
package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
	"spekeasy/internal/playback"
	"spekeasy/internal/tenant"
)

// Options are what a [Demo] is made of; all are required.
type Options struct {
	URL     string // of the key server, without a slash at the end
	Client  *encryptor.Client
	Tenant  *tenant.Tenant
	Secrets *playback.Secrets
	Version string
	Now     func() time.Time
}

// Stream is the clip under one scheme, with the exchange that its keys are
// from.
type Stream struct {
	ID       string // in URLs: cenc, cbcs, aes-128
	Name     string
	Packager string // who is played
	About    string
	Request  *encryptor.Request
	Answer   *encryptor.Answer
	Took     time.Duration // from the request to the answer

	scheme contentkey.Scheme
	tracks []*track
}

// ask is what is asked for a stream.
type ask struct {
	id, name, packager, about string
	options                   encryptor.Options
}

func asks() []ask {
	return []ask{
		{"cenc", "DASH, cenc", "MediaPackage v2 packaging CMAF", "AES in counter mode, one key for video and one for audio. Android, Windows, smart TVs.", encryptor.Options{
			Service: encryptor.MediaPackageV2, Version: encryptor.V20, ContentID: "sunrise-cenc", Packaging: encryptor.CMAF, Scheme: "cenc",
			Systems:     []string{"widevine", "playready", "common", "clearkey"},
			VideoPreset: "PRESET-VIDEO-1", AudioPreset: "PRESET-AUDIO-1", Force: true,
		}},
		{"cbcs", "DASH, cbcs", "MediaPackage v2 packaging CMAF", "AES in chained blocks, one in ten of them. Apple's devices, and everything recent.", encryptor.Options{
			Service: encryptor.MediaPackageV2, Version: encryptor.V20, ContentID: "sunrise-cbcs", Packaging: encryptor.CMAF, Scheme: "cbcs",
			Systems:     []string{"fairplay", "widevine", "playready", "common", "clearkey", "sample-aes"},
			VideoPreset: "PRESET-VIDEO-1", AudioPreset: "PRESET-AUDIO-1", Force: true,
		}},
		{"aes-128", "HLS, AES-128", "MediaPackage v2 packaging HLS", "Whole segments in AES, one key for both, fetched by its URL. No DRM system at all.", encryptor.Options{
			Service: encryptor.MediaPackageV2, Version: encryptor.V20, ContentID: "sunrise-aes-128", Packaging: encryptor.HLS, Scheme: "cbc1",
			Systems:     []string{"aes-128"},
			VideoPreset: encryptor.Shared, AudioPreset: encryptor.Shared, Force: true,
		}},
	}
}

// Demo is the page with its streams. It is an [http.Handler].
type Demo struct {
	Streams []*Stream

	o         Options
	mux       *http.ServeMux
	fragments fragments
}

// New asks the key server for keys and encrypts the clip with them.
func New(ctx context.Context, o Options) (*Demo, error) {
	d := &Demo{o: o, mux: http.NewServeMux()}
	text, err := assets.ReadFile("assets/page.html")
	if err != nil {
		return nil, err
	}
	d.fragments = parseFragments(string(text))
	for _, a := range asks() {
		s, err := d.stream(ctx, &a)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		d.Streams = append(d.Streams, s)
	}
	return d, d.routes()
}

func (d *Demo) stream(ctx context.Context, a *ask) (*Stream, error) {
	req, err := a.options.Build()
	if err != nil {
		return nil, err
	}
	began := d.o.Now()
	answer, err := d.o.Client.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	took := d.o.Now().Sub(began)
	for _, v := range answer.Check() {
		if !v.Advice {
			return nil, errors.New(v.String())
		}
	}
	s := &Stream{ID: a.id, Name: a.name, Packager: a.packager, About: a.about, Request: req, Answer: answer, Took: took}
	if s.scheme, err = contentkey.ParseScheme(a.options.Scheme); err != nil {
		return nil, err
	}
	for i, name := range []string{"video", "audio"} {
		s.tracks = append(s.tracks, &track{name: name})
		k, err := trackKeyOf(s.key(i), s.scheme)
		if err != nil {
			return nil, err
		}
		if s.tracks[i], err = protect(name, s.scheme, k); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// trackKeyOf takes out of an answer what the packager needs.
func trackKeyOf(k *encryptor.Key, scheme contentkey.Scheme) (*trackKey, error) {
	if !k.HasValue {
		return nil, fmt.Errorf("key ID %s: the answer has no content key", k.KID)
	}
	t := &trackKey{kid: k.KID, value: k.Value}
	if scheme != contentkey.Cenc {
		var err error
		if t.iv, err = contentkey.ParseIV(k.ExplicitIV); err != nil {
			return nil, fmt.Errorf("key ID %s: explicitIV: %w", k.KID, err)
		}
	}
	for i := range k.Systems {
		t.boxes = append(t.boxes, k.Systems[i].PSSH...)
	}
	return t, nil
}

// ticketLifetime is how long the page's playback tokens are good.
const ticketLifetime = 2 * time.Hour

// ticket issues a playback token for a content, with a shift of its time.
func (d *Demo) ticket(ctx context.Context, content string, shift time.Duration) (string, error) {
	now := d.o.Now().Add(shift)
	c := playback.Claims{Contents: []string{content}}
	c.NotBefore, c.Expiry = jwt.NewNumericDate(now), jwt.NewNumericDate(now.Add(ticketLifetime))
	text, _, err := playback.Issue(ctx, d.o.Secrets, d.o.Tenant, c, now)
	return text, err
}

// file is something that is served as it is.
type file struct {
	contentType string
	body        []byte
}

func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "no-cache")
	h.Set("Access-Control-Allow-Origin", "*") // other players may play it too
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
}

// The media types of what is served.
const (
	typeDASH = "application/dash+xml"
	typeHLS  = "application/vnd.apple.mpegurl"
)

func (d *Demo) routes() error {
	add := func(path, contentType string, body []byte) { d.mux.Handle("GET "+path, &file{contentType, body}) }
	for _, s := range d.Streams {
		base := "/demo/" + s.ID
		if s.scheme != contentkey.Cbc1 {
			add(base+".mpd", typeDASH, []byte(s.mpd()))
		}
		if s.scheme != contentkey.Cenc {
			add(base+".m3u8", typeHLS, []byte(s.master()))
		}
		for i, t := range s.tracks {
			if s.scheme != contentkey.Cenc {
				playlist, err := s.playlist(i)
				if err != nil {
					return err
				}
				add(base+"/"+t.name+".m3u8", typeHLS, []byte(playlist))
			}
			add(base+"/"+t.name+"/init.mp4", t.name+"/mp4", t.init)
			for j := range t.pieces {
				add(base+"/"+t.name+"/"+strconv.Itoa(j+1)+".m4s", t.name+"/mp4", t.pieces[j].body)
			}
		}
	}
	for _, name := range []string{"style.css", "player.js", "theme.js", "icon.svg"} {
		b, err := assets.ReadFile("assets/" + name)
		if err != nil {
			return err
		}
		types := map[string]string{"css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
		add("/demo/"+name, types[name[len(name)-3:]], b)
	}
	d.mux.HandleFunc("GET /{$}", d.page)
	return nil
}

// Patterns are the paths that the page needs.
func (*Demo) Patterns() []string { return []string{"/{$}", "/demo/"} }

func (d *Demo) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.mux.ServeHTTP(w, r) }

// manifest is the address of what a stream's player loads first.
func (s *Stream) manifest() string {
	if s.scheme == contentkey.Cbc1 {
		return "/demo/" + s.ID + ".m3u8"
	}
	return "/demo/" + s.ID + ".mpd"
}

// Tracks names what is encrypted, for people.
func (s *Stream) Tracks() string {
	var names []string
	size := 0
	for _, t := range s.tracks {
		names = append(names, t.name)
		for i := range t.pieces {
			size += len(t.pieces[i].body)
		}
	}
	return fmt.Sprintf("%s, %d kB", strings.Join(names, " and "), size/1000)
}
