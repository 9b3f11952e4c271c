package speke_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"spekeasy/drm"
	"spekeasy/speke"
)

// One Request parses and answers one document after another like new ones,
// whatever came before, and a refused one too.
func TestReuse(t *testing.T) {
	documents := map[string]string{
		"2.0": tracks(3), "": strings.Replace(tracks(40), `contentId="movie" version="2.3"`, `id="movie"`, 1), "2.1": "<x/>", "1.0": "",
	}
	p := policy(t)
	var r speke.Request
	for range 3 {
		for version, body := range documents {
			fresh, want := speke.ParseRequest(header(version), []byte(body), p)
			err := r.Parse(header(version), []byte(body), p)
			if fmt.Sprint(err) != fmt.Sprint(want) {
				t.Fatalf("version %q: %v, want %v", version, err, want)
			}
			if err != nil {
				if _, ok := errors.AsType[*speke.Error](err); !ok {
					t.Errorf("version %q: %v is not an Error", version, err)
				}
				continue
			}
			got, _, err := answer(&r, grants(&r), nil)
			if err != nil {
				t.Fatal(err)
			}
			if want, _, err := answer(fresh, grants(fresh), nil); got != want || err != nil {
				t.Errorf("version %q: answer\n%s\nwant\n%s, %v", version, got, want, err)
			}
		}
	}
}

// Whatever came of an answer, a second one to the same request has nothing of
// the first: a gateway asks the next upstream when an answer does not fit.
func TestAnswerAgain(t *testing.T) {
	body := []byte(strings.ReplaceAll(tracks(2), "<c:PSSH/>", "<c:PSSH></c:PSSH>"))
	var r speke.Request
	if err := r.Parse(header("2.0"), body, policy(t)); err != nil {
		t.Fatal(err)
	}
	first := grants(&r)
	for i := range first {
		first[i].KID[0], first[i].Value[0] = 0xee, 0xee
	}
	if _, _, err := answer(&r, first, nil); err != nil {
		t.Fatal(err)
	}
	got, _, err := answer(&r, grants(&r), nil)
	if want, _ := mustAnswer(t, "2.0", string(body)); got != want || err != nil {
		t.Errorf("%v, answer\n%s\nwant\n%s", err, got, want)
	}
}

// tracks is a request for that many keys with a track and a Widevine box
// each.
func tracks(keys int) string {
	return `<c:CPIX contentId="movie" version="2.3" xmlns:c="urn:dashif:org:cpix"><c:ContentKeyList>` +
		repeat(keys, func(i int) string { return `<c:ContentKey kid="` + kid(i) + `" commonEncryptionScheme="cbcs"/>` }) +
		`</c:ContentKeyList><c:DRMSystemList>` +
		repeat(keys, func(i int) string {
			return `<c:DRMSystem kid="` + kid(i) + `" systemId="` + widevineID + `"><c:PSSH/></c:DRMSystem>`
		}) +
		`</c:DRMSystemList><c:ContentKeyUsageRuleList>` +
		repeat(keys, func(i int) string {
			return fmt.Sprintf(`<c:ContentKeyUsageRule kid="%s" intendedTrackType="T%d"><c:VideoFilter/></c:ContentKeyUsageRule>`, kid(i), i)
		}) +
		`</c:ContentKeyUsageRuleList></c:CPIX>`
}

// A request that is reset shows nothing of what it was, not even to those who
// kept a part of it, and keeps no more memory than usual requests need.
func TestReset(t *testing.T) {
	p := policy(t)
	var r speke.Request
	before := heap()
	if err := r.Parse(header("2.0"), []byte(tracks(3000)), p); err != nil {
		t.Fatal(err)
	}
	if _, _, err := answer(&r, grants(&r), nil); err != nil {
		t.Fatal(err)
	}
	full := heap() - before
	r.Reset()
	if kept := heap() - before; full < 2<<20 || kept > 1<<18 {
		t.Errorf("%d bytes are kept of %d", kept, full)
	}

	if err := r.Parse(header("2.0"), []byte(tracks(2)), p); err != nil {
		t.Fatal(err)
	}
	keys, systems, rules := r.Keys, r.Systems, r.Document().UsageRules
	body, err := r.Answer(grants(&r), make([]drm.Signaling, len(systems)), nil)
	if err != nil || len(body) == 0 {
		t.Fatal(err)
	}
	r.Reset()
	if keys[0].Uses != nil || systems[0].System != nil || rules[0].IntendedTrackType != "" || !bytes.Equal(body, make([]byte, len(body))) {
		t.Errorf("left are %+v, %+v, %+v and %q", keys[0], systems[0], rules[0], body)
	}
	if r.ContentID != "" || len(r.Keys) != 0 || len(r.Systems) != 0 || r.Document().Source() != "" {
		t.Errorf("the request is still %+v", r.Keys)
	}
}

// heap is the memory in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
