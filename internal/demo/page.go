package demo

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
)

//go:embed assets
var assets embed.FS

// pageView is what the template shows.
type pageView struct {
	Version, URL string
	Streams      []streamView
	Player       playerData
}

// streamView is one of the tabs.
type streamView struct {
	*Stream
	Speke    string   // version
	Headers  []string // of the request
	Took     string
	Request  []xmlLine
	Answer   []xmlLine
	Keys     []keyView
	Systems  []decoded // of the first key: the others differ in the key ID
	Manifest string
	Size     string
}

type keyView struct {
	KID, Track string
	Key, IV    string
	Systems    int
}

// playerData is what the script of the page needs.
type playerData struct {
	License string         `json:"license"`
	Streams []playerStream `json:"streams"`
}

type playerStream struct {
	ID       string            `json:"id"`
	Manifest string            `json:"manifest"`
	Scheme   string            `json:"scheme"`
	Tickets  map[string]string `json:"tickets"`
}

func parsePage() (*template.Template, error) {
	indent := func(n int) string { return strings.Repeat("  ", n) }
	return template.New("").Funcs(template.FuncMap{"indent": indent}).ParseFS(assets, "assets/page.html")
}

// page shows everything; tickets are issued for each visit.
func (d *Demo) page(w http.ResponseWriter, r *http.Request) {
	view := pageView{Version: d.o.Version, URL: d.o.URL, Player: playerData{License: "/license/clearkey"}}
	for _, s := range d.Streams {
		tickets := make(map[string]string)
		for name, t := range map[string]struct {
			content string
			shift   time.Duration
		}{"good": {s.Answer.ContentID, 0}, "expired": {s.Answer.ContentID, -24 * time.Hour}, "other": {"another-film", 0}} {
			text, err := d.ticket(r.Context(), t.content, t.shift)
			if err != nil {
				http.Error(w, "temporarily unavailable", http.StatusServiceUnavailable)
				return
			}
			tickets[name] = text
		}
		view.Player.Streams = append(view.Player.Streams, playerStream{s.ID, s.manifest(), s.scheme.String(), tickets})
		view.Streams = append(view.Streams, s.view())
	}
	var body bytes.Buffer
	if err := d.template.ExecuteTemplate(&body, "page.html", view); err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	w.Write(body.Bytes()) //nolint:errcheck // the visitor is gone
}

func (s *Stream) view() streamView {
	v := streamView{
		Stream: s, Speke: string(s.Request.Version), Took: fmt.Sprintf("%.1f ms", float64(s.Took.Microseconds())/1000), Manifest: s.manifest(),
		Request: xmlLines(s.Request.Body), Answer: xmlLines(s.Answer.Body()), Size: fmt.Sprintf("%.1f kB", float64(len(s.Answer.Body()))/1000),
	}
	markChanges(v.Request, v.Answer)
	for _, name := range []string{"Content-Type", "X-Speke-Version"} {
		v.Headers = append(v.Headers, name+": "+s.Request.Header.Get(name))
	}
	for i := range s.Answer.Keys {
		v.Keys = append(v.Keys, viewKey(&s.Answer.Keys[i]))
	}
	if len(s.Answer.Keys) > 0 {
		k := &s.Answer.Keys[0]
		for i := range k.Systems {
			v.Systems = append(v.Systems, decode(&k.Systems[i]))
		}
	}
	return v
}

func viewKey(k *encryptor.Key) keyView {
	var tracks []string
	for _, u := range k.Uses {
		tracks = append(tracks, strings.ToLower(strings.ReplaceAll(u.Track, "_", " ")))
	}
	iv := "none: each sample has its own"
	if v, err := contentkey.ParseIV(k.ExplicitIV); err == nil {
		iv = fmt.Sprintf("%x", v[:])
	}
	return keyView{
		KID: k.KID.String(), Track: strings.Join(tracks, ", "), IV: iv, Systems: len(k.Systems),
		Key: base64.StdEncoding.EncodeToString(k.Value[:]),
	}
}
