package binding_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/binding"
)

func (f *fixture) live(content, at string) (out []string) {
	f.t.Helper()
	var got struct {
		Keys []binding.Live
	}
	if at != "" {
		at = "?at=" + at
	}
	f.get("/v1/contents/"+content+"/live"+at, &got)
	for _, k := range got.Keys {
		until := "-"
		if k.Until != nil {
			until = k.Until.Format("15:04")
		}
		out = append(out, fmt.Sprintf("%s %d %s %s %s", k.Track, k.KID[15], k.Since.Format("15:04"), until, k.Basis))
	}
	return out
}

// TestLive asks which key is live, since when and until when.
func TestLive(t *testing.T) {
	f := start(t)
	dated := func(n int, from, to string) contentkey.Period {
		return contentkey.Period{ID: fmt.Sprint("p", n), Index: fmt.Sprint(n), Start: "2026-11-22T" + from + ":00Z", End: "2026-11-22T" + to + ":00Z"}
	}
	// The key of the next period is asked for before it begins.
	f.ask(-5, use{"dated", "VIDEO", 1, 0, dated(1, "12:00", "13:00")})
	f.ask(50, use{"dated", "VIDEO", 2, 0, dated(2, "13:00", "14:00")}, use{"dated", "AUDIO", 9, 0, dated(2, "13:00", "14:00")})
	for i := range 12 {
		f.ask(10*i, use{"indexed", "VIDEO", 20 + i, 0, contentkey.Period{ID: fmt.Sprint("k", i), Index: fmt.Sprint(i)}})
	}
	f.ask(0, use{"movie", "VIDEO", 3, 0, contentkey.Period{}}, use{"movie", "AUDIO", 4, 0, contentkey.Period{}})
	f.ask(0, use{"offsets", "VIDEO", 5, 0, contentkey.Period{ID: "o", Start: "PT0S", End: "PT10M"}})
	// Two periods in one request: the higher index is the later one.
	f.ask(0, use{"pair", "VIDEO", 31, 0, contentkey.Period{Index: "9"}}, use{"pair", "VIDEO", 32, 0, contentkey.Period{Index: "10"}})
	f.ask(0, use{"pair", "VIDEO", 30, 0, contentkey.Period{Index: "8"}})

	for _, c := range []struct {
		content, at string
		want        []string
	}{
		{"dated", "2026-11-22T12:59:59Z", []string{"VIDEO 1 12:00 13:00 period"}},
		{"dated", "2026-11-22T13:00:00Z", []string{"AUDIO 9 13:00 14:00 period", "VIDEO 2 13:00 14:00 period"}},
		{"dated", "2026-11-22T13:30:00%2B01:00", []string{"VIDEO 1 12:00 13:00 period"}},
		{"dated", "2026-11-22T14:00:00Z", nil},
		{"dated", "2026-11-22T11:59:00Z", nil},
		{"indexed", "2026-11-22T12:25:00Z", []string{"VIDEO 22 12:20 12:30 first_seen"}},
		{"indexed", "2026-11-22T23:00:00Z", []string{"VIDEO 31 13:50 - first_seen"}},
		{"indexed", "2026-11-22T11:00:00Z", nil},
		{"movie", "", []string{"AUDIO 4 12:00 - first_seen", "VIDEO 3 12:00 - first_seen"}},
		{"offsets", "", nil},
		{"pair", "", []string{"VIDEO 32 12:00 - first_seen"}},
		{"nothing", "", nil},
	} {
		if got := f.live(c.content, c.at); !slices.Equal(got, c.want) {
			t.Errorf("%s at %s: %q, want %q", c.content, c.at, got, c.want)
		}
	}
}

// TestLiveNow uses the clock when no time is given.
func TestLiveNow(t *testing.T) {
	f := start(t)
	f.ask(0, use{"channel", "VIDEO", 1, 0, contentkey.Period{Index: "1"}})
	f.ask(10, use{"channel", "VIDEO", 2, 0, contentkey.Period{Index: "2"}})
	f.now.Store(noon.Add(5 * time.Minute).UnixMicro())
	if got := f.live("channel", ""); !slices.Equal(got, []string{"VIDEO 1 12:00 12:10 first_seen"}) {
		t.Errorf("%q", got)
	}
}
