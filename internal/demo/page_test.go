package demo_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"spekeasy/internal/demo/demotest"
)

var screenshots = flag.String("screenshots", "", "directory that takes pictures of the page; none are taken by default")

// screen is a way to look at the page.
type screen struct {
	name          string
	width, height int
	scale         float64
	dark          bool
}

var screens = []screen{
	{"desktop", 1360, 900, 1, false},
	{"desktop-dark", 1360, 900, 1, true},
	{"phone", 390, 844, 2, false},
	{"phone-dark", 390, 844, 2, true},
}

func look(t *testing.T, ctx context.Context, s *screen) { //nolint:revive // the test comes first
	t.Helper()
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(int64(s.width), int64(s.height), chromedp.EmulateScale(s.scale))); err != nil {
		t.Fatal(err)
	}
}

func shoot(t *testing.T, ctx context.Context, name string, full bool) { //nolint:revive // the test comes first
	t.Helper()
	if *screenshots == "" {
		return
	}
	action := chromedp.CaptureScreenshot()
	if full {
		action = chromedp.FullScreenshot(100)
	}
	png, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644); err != nil { //nolint:gosec // not secret
		t.Fatal(err)
	}
}

const playing = `document.getElementById('video').currentTime > 0.5 && document.getElementById('video').getVideoPlaybackQuality().totalVideoFrames > 10`

// TestPage plays every stream on the page, at the size of a desktop and of a
// phone.
func TestPage(t *testing.T) {
	s := demotest.Start(t, nil)
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			ctx := demotest.Browser(t, screen.width, screen.height)
			look(t, ctx, &screen)
			demotest.Open(t, ctx, s.URL+"/")
			if screen.dark {
				demotest.Eval[bool](t, ctx, `document.getElementById('theme').click() || true`)
			}
			for i, stream := range s.Demo.Streams {
				if i > 0 {
					demotest.Eval[bool](t, ctx, fmt.Sprintf(`document.querySelector('input[value="%s"]').click() || true`, stream.ID))
					demotest.Wait(t, ctx, `document.getElementById('video').currentTime < 0.5`)
				}
				demotest.Wait(t, ctx, playing)
				demotest.Wait(t, ctx, `[...document.querySelectorAll('.steps li')].every(li => li.dataset.state === 'done')`)
				if i == 0 {
					demotest.Wait(t, ctx, `document.getElementById('video').currentTime > 5`)
					shoot(t, ctx, screen.name, false)
				}
				time.Sleep(100 * time.Millisecond)
				shoot(t, ctx, screen.name+"-"+stream.ID+"-full", true)
			}
			if wide := demotest.Eval[int](t, ctx, `document.documentElement.scrollWidth`); wide > screen.width {
				t.Errorf("the page is %d pixels wide", wide)
			}
		})
	}
}
