package demo_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"spekeasy/internal/demo/demotest"
)

var screenshots = flag.String("screenshots", "", "directory that takes pictures of the page; none are taken by default")

// screen is a way to look at the page.
type screen struct {
	name          string
	width, height int
	scale         float64
	dark          bool
	sections      []string // that pictures are taken of
}

// visitor looks at the page of a server.
type visitor struct {
	*testing.T
	ctx context.Context
}

func visit(t *testing.T, s *demotest.Server, o *screen) *visitor {
	t.Helper()
	v := &visitor{t, demotest.Browser(t, o.width, o.height)}
	v.do(chromedp.EmulateViewport(int64(o.width), int64(o.height), chromedp.EmulateScale(o.scale)))
	demotest.Open(t, v.ctx, s.URL+"/")
	if o.dark {
		v.run(`document.getElementById('theme').click()`)
	}
	return v
}

func (v *visitor) do(actions ...chromedp.Action[chromedp.Void]) {
	v.Helper()
	if err := chromedp.Do(v.ctx, actions...); err != nil {
		v.Fatal(err)
	}
}

// run runs a statement in the page.
func (v *visitor) run(statement string) {
	v.Helper()
	demotest.Eval[bool](v.T, v.ctx, `(() => { `+statement+`; return true })()`)
}

func (v *visitor) wait(expression string) {
	v.Helper()
	demotest.Wait(v.T, v.ctx, expression)
}

// choose chooses a stream or a ticket.
func (v *visitor) choose(value string) {
	v.Helper()
	v.run(`document.querySelector('input[value="` + value + `"]').click()`)
}

// plays waits until the picture moves and every step is done.
func (v *visitor) plays() {
	v.Helper()
	v.wait(`document.getElementById('video').currentTime > 0.5 && document.getElementById('video').getVideoPlaybackQuality().totalVideoFrames > 10`)
	v.wait(`document.getElementById('cover').hidden && [...document.querySelectorAll('.steps li')].every(li => li.dataset.state === 'done')`)
}

// shoot keeps a picture of what is in the window.
func (v *visitor) shoot(name string) {
	v.Helper()
	if *screenshots == "" {
		return
	}
	png, err := chromedp.Run(v.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		v.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, "demo-"+name+".png"), png, 0o644); err != nil {
		v.Fatal(err)
	}
}

// TestPage plays every stream on the page, at the size of a desktop and of a
// phone, in light and dark.
func TestPage(t *testing.T) {
	s := demotest.Start(t, nil)
	for _, o := range []screen{
		{"desktop", 1360, 900, 1, false, []string{"exchange", "decoded", "who"}}, {"desktop-dark", 1360, 900, 1, true, []string{"exchange"}},
		{"phone", 390, 844, 2, false, []string{"who"}}, {"phone-dark", 390, 844, 2, true, nil},
	} {
		t.Run(o.name, func(t *testing.T) {
			v := visit(t, s, &o)
			v.plays()
			v.run(`window.moved = 0; new PerformanceObserver(list => { for (const e of list.getEntries()) moved += e.value }).observe({ type: 'layout-shift', buffered: true }); setTimeout(() => { window.counted = true }, 300)`)
			v.wait(`window.counted`)
			if moved := demotest.Eval[float64](t, v.ctx, `moved`); moved > 0.02 {
				t.Errorf("the page moves while it loads: %v", moved)
			}
			if *screenshots != "" {
				v.wait(`document.getElementById('video').currentTime > 5`) // the sun is up
				v.shoot(o.name)
				for _, section := range o.sections {
					v.run(`document.documentElement.style.scrollBehavior = 'auto'; document.getElementById('` + section + `').scrollIntoView()`)
					v.shoot(o.name + "-" + section)
				}
			}
			for _, stream := range s.Demo.Streams[1:] {
				v.choose(stream.ID)
				v.wait(`document.getElementById('video').currentTime < 0.5`)
				v.plays()
				if shown := demotest.Eval[string](t, v.ctx, `[...document.querySelectorAll('.stream')].filter(s => !s.hidden).map(s => s.dataset.stream).join()`); shown != stream.ID {
					t.Errorf("shown is the exchange of %s, not of %s", shown, stream.ID)
				}
			}
			if wide := demotest.Eval[int](t, v.ctx, `document.documentElement.scrollWidth`); wide > o.width {
				t.Errorf("the page is %d pixels wide", wide)
			}
			if foreign := demotest.Eval[string](t, v.ctx, `performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith(location.origin) && !n.startsWith('blob:')).join()`); foreign != "" {
				t.Errorf("the page loads %s", foreign)
			}
		})
	}
}

// TestTickets: without a good ticket nothing plays, and the page says why.
func TestTickets(t *testing.T) {
	s := demotest.Start(t, nil)
	v := visit(t, s, &screen{width: 1360, height: 900, scale: 1})
	v.plays()
	for _, stream := range s.Demo.Streams {
		v.choose(stream.ID)
		for ticket, want := range map[string]string{
			"expired": "401: the playback token has expired",
			"other":   "403: the playback token is not for this content",
			"none":    "401: a playback token is required",
		} {
			v.choose(ticket)
			v.wait(`!document.getElementById('cover').hidden && document.getElementById('cover').innerText.includes("` + want + `")`)
			if state := demotest.Eval[string](t, v.ctx, `document.querySelector('[data-step-item=license]').dataset.state`); state != "failed" {
				t.Errorf("%s, %s: the step of the license is %q", stream.ID, ticket, state)
			}
			if at := demotest.Eval[float64](t, v.ctx, `document.getElementById('video').currentTime`); at > 0.2 {
				t.Errorf("%s, %s: it plays", stream.ID, ticket)
			}
			if *screenshots != "" && stream.ID == "cenc" && ticket == "expired" {
				v.shoot("refused")
			}
		}
		v.choose("good")
		v.plays()
	}
}

// TestKeyboard uses the page without a pointer.
func TestKeyboard(t *testing.T) {
	s := demotest.Start(t, nil)
	v := visit(t, s, &screen{width: 1360, height: 900, scale: 1})
	v.plays()
	focused := func(key string) string {
		t.Helper()
		v.do(chromedp.KeyEvent(key))
		return demotest.Eval[string](t, v.ctx, `document.activeElement.id || document.activeElement.className || document.activeElement.value || ''`)
	}
	if first := focused("\t"); first != "skip" {
		t.Errorf("the first stop is %q", first)
	}
	var stops []string
	for range 24 { // the video has a dozen
		stops = append(stops, focused("\t"))
	}
	for _, want := range []string{"logo", "theme", "video", "cenc", "good"} {
		if !strings.Contains(strings.Join(stops, " ")+" ", want+" ") {
			t.Errorf("%s is not among the stops %v", want, stops)
		}
	}
	v.run(`document.querySelector('input[value=cenc]').focus()`)
	if now := focused(kb.ArrowRight); now != "cbcs" {
		t.Errorf("the arrow leads to %q", now)
	}
	v.wait(`document.getElementById('video').currentTime < 0.5`)
	v.plays()
}

// TestPageWithoutScript: all but the player is there without JavaScript, and
// content keys are not to be seen by accident.
func TestPageWithoutScript(t *testing.T) {
	s := demotest.Start(t, nil)
	body := get(t, s.URL+"/")
	for _, want := range []string{
		"sunrise-cenc", "sunrise-cbcs", "sunrise-aes-128", // requests
		"edef8ba9-79d6-4ace-a3c8-27dcd51d21ed", "WRMHEADER", "skd://", "dashif:Laurl", "METHOD=AES-128", // decoded
		"protection_scheme", "KeyId", "checksum",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	for _, stream := range s.Demo.Streams {
		if n := strings.Count(body, `class="blank"`); n < 10 {
			t.Errorf("%s: %d lines that are to be filled in", stream.ID, n)
		}
	}
}
