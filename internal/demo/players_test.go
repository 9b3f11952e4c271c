package demo_test

import (
	"bytes"
	"context"
	"image/png"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/go-jose/go-jose/v4/jwt"

	"spekeasy/contentkey"
	"spekeasy/internal/config"
	"spekeasy/internal/demo/demotest"
	"spekeasy/internal/playback"
	"spekeasy/internal/tenant"
)

// players are where npm has put them.
const players = "../../bin/npm/node_modules"

// pictures is where those of the players are kept, to be looked at.
const pictures = "../../bin/players"

// stage is a server with streams and a page for each player.
type stage struct {
	*demotest.Server
	ctx context.Context
}

func newStage(t *testing.T) *stage {
	t.Helper()
	if _, err := os.Stat(filepath.Join(players, "shaka-player")); err != nil {
		t.Fatalf("%v: run scripts/testdeps.sh", err)
	}
	s := &stage{Server: demotest.Start(t, func(c *config.Config) {
		c.Cache.Lifetime = config.Duration(time.Millisecond) // a deletion shows at once
		other := tenant.Settings{ID: "other", Playback: &tenant.Playback{ClearKey: true, AcceptStudioKeys: true}}
		c.Tenants = append(c.Tenants, other)
	})}
	s.Mux.Handle("/players/", http.StripPrefix("/players/", http.FileServer(http.Dir(players))))
	s.Mux.HandleFunc("/player.html", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "testdata/player.html") })
	s.ctx = demotest.Browser(t, 820, 620)
	return s
}

// claims are of a token for a content that is good for an hour.
func claims(content string) playback.Claims {
	now := time.Now()
	c := playback.Claims{Contents: []string{content}}
	c.NotBefore, c.Expiry = jwt.NewNumericDate(now), jwt.NewNumericDate(now.Add(time.Hour))
	return c
}

func (s *stage) token(t *testing.T, of *tenant.Tenant, c playback.Claims) string {
	t.Helper()
	text, _, err := playback.Issue(t.Context(), s.Secrets, of, c, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (s *stage) open(t *testing.T, player, stream, token string) {
	t.Helper()
	demotest.Open(t, s.ctx, s.URL+"/player.html?"+url.Values{"player": {player}, "url": {"/demo/" + stream}, "token": {token}}.Encode())
}

// contentOf is the content ID of a stream's file.
func contentOf(stream string) string {
	id, _, _ := strings.Cut(stream, ".")
	return "sunrise-" + id
}

// TestPlayers has players that we did not write play what we encrypted with
// keys from SPEKE answers and licenses from our endpoints: frames are decoded,
// time goes on, and the picture is there, since a Clear Key that is wrong shows
// only there (D-407).
func TestPlayers(t *testing.T) {
	s := newStage(t)
	for _, c := range []struct{ name, player, stream string }{
		{"shaka-dash-cenc", "shaka", "cenc.mpd"},
		{"shaka-dash-cbcs", "shaka", "cbcs.mpd"},
		{"shaka-hls-aes-128", "shaka", "aes-128.m3u8"},
		{"shaka-hls-sample-aes", "shaka", "cbcs.m3u8"},
		{"dashjs-dash-cenc", "dash", "cenc.mpd"},
		{"dashjs-dash-cbcs", "dash", "cbcs.mpd"},
		{"hlsjs-hls-aes-128", "hls", "aes-128.m3u8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.open(t, c.player, c.stream, s.token(t, s.Tenant, claims(contentOf(c.stream))))
			demotest.Wait(t, s.ctx, `document.getElementById('video').currentTime > 3`)
			if frames := demotest.Eval[int](t, s.ctx, `document.getElementById('video').getVideoPlaybackQuality().totalVideoFrames`); frames < 50 {
				t.Errorf("%d frames decoded in 3 seconds", frames)
			}
			if said := demotest.Eval[string](t, s.ctx, `document.getElementById('log').textContent`); said != "" {
				t.Errorf("the player said: %s", said)
			}
			s.checkPicture(t, c.name)
		})
	}
}

// checkPicture looks for the clip's sun, in a picture of the browser: protected
// frames cannot be read by the page.
func (s *stage) checkPicture(t *testing.T, name string) {
	t.Helper()
	b, err := chromedp.Run(s.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pictures, name+".png"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	sun, sky, bounds := 0, 0, img.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			r, g, b, _ := img.At(x, y).RGBA()
			switch r, g, b := r>>8, g>>8, b>>8; {
			case r > 245 && g > 235 && 200 < b && b < 235:
				sun++
			case r < 120 && b > 80 && b > g+20:
				sky++
			}
		}
	}
	if sun < 500 || sky < 10_000 {
		t.Errorf("the picture is not the clip's: %d pixels of sun, %d of sky and hills", sun, sky)
	}
}

// TestPlayersRefused holds that nothing plays without a good token or with a
// revoked key, and that the player learns why.
func TestPlayersRefused(t *testing.T) {
	s := newStage(t)
	other, err := (&tenant.Settings{ID: "other", Playback: &tenant.Playback{ClearKey: true, AcceptStudioKeys: true}}).Build()
	if err != nil {
		t.Fatal(err)
	}
	custody, err := s.App.Keystore.Custody()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		of     *tenant.Tenant
		change func(*playback.Claims)
		revoke bool // the content key
		status string
		want   string
	}{
		{"expired token", s.Tenant, func(c *playback.Claims) {
			c.NotBefore, c.Expiry = jwt.NewNumericDate(time.Now().Add(-2*time.Hour)), jwt.NewNumericDate(time.Now().Add(-time.Hour))
		}, false, "401", "the playback token has expired"},
		{"token of another tenant", other, nil, false, "404", "no such content key"},
		{"token for another content", s.Tenant, func(c *playback.Claims) { c.Contents = []string{"another"} }, false, "403", "the playback token is not for this content"},
		{"revoked key", s.Tenant, nil, true, "410", "this content key was revoked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, p := range []struct{ player, stream string }{{"shaka", "cenc.mpd"}, {"dash", "cbcs.mpd"}, {"hls", "aes-128.m3u8"}} {
				cl := claims(contentOf(p.stream))
				if c.change != nil {
					c.change(&cl)
				}
				if c.revoke {
					for _, stream := range s.Demo.Streams {
						var kids []contentkey.KID
						for i := range stream.Answer.Keys {
							kids = append(kids, stream.Answer.Keys[i].KID)
						}
						if _, err := custody.Delete(t.Context(), "dev", kids); err != nil {
							t.Fatal(err)
						}
					}
				}
				s.open(t, p.player, p.stream, s.token(t, c.of, cl))
				want := c.want
				if p.player == "dash" {
					want = "(" + c.status + ")" // it does not show what a license server says
				}
				demotest.Wait(t, s.ctx, `document.getElementById('log').textContent.includes("`+want+`")`)
				if at := demotest.Eval[float64](t, s.ctx, `document.getElementById('video').currentTime`); at > 0.2 {
					t.Errorf("%s: it plays until %v", p.player, at)
				}
			}
		})
	}
}
