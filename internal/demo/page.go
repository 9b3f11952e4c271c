package demo

import (
	"cmp"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
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
	body, err := d.render(&view)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	io.WriteString(w, string(body)) //nolint:errcheck // the visitor is gone
}

// render writes the page. Its fragments are in assets/page.html.
func (d *Demo) render(v *pageView) (markup, error) {
	player, err := json.Marshal(v.Player) // it escapes what would end a script element
	if err != nil {
		return "", err
	}
	f := d.fragments
	return f.fill("page", values{
		"version": v.Version, "url": v.URL, "player": markup(player),
		"choices": each(v.Streams, func(s *streamView) markup {
			return f.fill("choice", values{"id": s.ID, "name": s.Name, "checked": when(s == &v.Streams[0], " checked")})
		}),
		"streams":   each(v.Streams, func(s *streamView) markup { return f.stream(s, s == &v.Streams[0]) }),
		"manifests": each(v.Streams, func(s *streamView) markup { return esc(v.URL + s.Manifest + "\n") }),
	}), nil
}

// stream is what is shown while one of the tabs is chosen. The links at the
// top of the page lead to the first.
func (f fragments) stream(s *streamView, first bool) markup {
	return f.fill("stream", values{
		"id": s.ID, "name": s.Name, "about": s.About, "packager": s.Packager, "speke": s.Speke, "size": s.Size, "took": s.Took,
		"tracks": s.Tracks(), "keycount": plural(len(s.Keys), "key", "keys"), "ways": plural(len(s.Systems), "way", "ways"),
		"exchange-id": when(first, ` id="exchange"`), "decoded-id": when(first, ` id="decoded"`),
		"request": each(s.Headers, func(h *string) markup { return `<div class="header">` + esc(*h) + "</div>" }) + each(s.Request, (*xmlLine).markup),
		"answer":  each(s.Answer, (*xmlLine).markup),
		"keys": each(s.Keys, func(k *keyView) markup {
			return f.fill("key", values{"track": cmp.Or(k.Track, "all"), "kid": k.KID, "key": k.Key, "iv": k.IV})
		}),
		"systems": each(s.Systems, f.system),
	})
}

// system is a card about one DRM system's signaling.
func (f fragments) system(d *decoded) markup {
	parts := f.fill("parts", values{"title": d.Title, "rows": each(d.Parts, func(p *part) markup {
		return f.fill("part", values{
			"class": p.Class, "hex": p.Hex, "meaning": p.Meaning, "value": when(p.Value != "", "<span>"+esc(p.Value)+"</span>"),
		})
	})})
	facts := f.fill("facts", values{"rows": each(d.Facts, func(fact *[2]string) markup {
		return f.fill("fact", values{"name": fact[0], "value": fact[1]})
	})})
	return f.fill("system", values{
		"name": d.Name, "reader": d.Reader, "about": d.About, "id": d.ID,
		"parts": when(len(d.Parts) > 0, parts), "facts": when(len(d.Facts) > 0, facts),
		"text": when(d.Text != "", f.fill("text", values{"name": d.TextName, "text": d.Text})),
	})
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
