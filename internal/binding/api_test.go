package binding_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/internal/kidrule"
)

// TestConsistent holds that a binding can be read the moment an encryptor has
// its answer.
func TestConsistent(t *testing.T) {
	f := start(t)
	for i := range 20 {
		content := fmt.Sprintf("movie %d/ä", i)
		f.ask(i, use{content: content, track: "VIDEO", kid: i})
		var got list
		f.get("/v1/contents/"+url.PathEscape(content)+"/keys", &got)
		if len(got.Bindings) != 1 || got.Bindings[0].KID != kid(i) || got.Bindings[0].ContentID != content {
			t.Fatalf("%s: %+v", content, got)
		}
	}
}

func TestContentKeys(t *testing.T) {
	f := start(t)
	f.ask(0, use{"movie", "VIDEO", 1, 0, contentkey.Period{}}, use{"movie", "AUDIO", 2, 12, contentkey.Period{}}, use{"other", "VIDEO", 3, 0, contentkey.Period{}})
	f.ask(60, use{"movie", "VIDEO", 4, 0, contentkey.Period{ID: "p7", Index: "7"}})
	for query, want := range map[string][]string{
		"":                                   []string{"1", "2", "4"},
		"?track=AUDIO":                       {"2"},
		"?track=HD":                          nil,
		"?period=7":                          {"4"},
		"?period=p7":                         {"4"},
		"?scheme=cbcs":                       {"1", "2", "4"},
		"?scheme=cenc":                       nil,
		"?kid=" + kid(12).String():           {"2"},
		"?kid=" + kid(3).String():            nil,
		"?since=2026-11-22T12:30:00Z":        {"4"},
		"?until=2026-11-22T12:30:00Z":        {"1", "2"},
		"?until=2026-11-22T13:30:00%2B01:00": {"1", "2"},
	} {
		var got list
		f.get("/v1/contents/movie/keys"+query, &got)
		if k := got.kids(); !slices.Equal(k, want) {
			t.Errorf("%s: keys %v, want %v", query, k, want)
		}
	}
	var got list
	f.get("/v1/contents/movie/keys?track=AUDIO", &got)
	b := got.Bindings[0]
	if b.Requested != kid(12) || b.SPEKE != "2.0" || b.Scheme != contentkey.Cbcs || !b.FirstSeen.Equal(noon) ||
		len(b.Systems) != 1 || b.Systems[0].Name != "Widevine" || b.Period != nil {
		t.Errorf("%+v", b)
	}
	var theirs list
	res := f.as("other", "/v1/contents/movie/keys")
	if err := json.NewDecoder(res.Body).Decode(&theirs); err != nil || len(theirs.Bindings) != 0 {
		t.Errorf("another tenant reads %+v, %v", theirs, err)
	}
}

func TestPages(t *testing.T) {
	f := start(t)
	var uses []use
	for i := range 10 {
		uses = append(uses, use{"movie", fmt.Sprint("T", i%2), i, 0, contentkey.Period{}})
	}
	f.ask(0, uses...)
	for query, want := range map[string]int{"limit=3": 10, "limit=10": 10, "limit=3&track=T1": 5} {
		seen := make(map[string]bool)
		after, pages := "", 0
		for ; ; pages++ {
			var got list
			f.get("/v1/contents/movie/keys?"+query+"&after="+after, &got)
			for _, k := range got.kids() {
				if seen[k] {
					t.Fatalf("%s: key %s comes twice", query, k)
				}
				seen[k] = true
			}
			if after = got.Next; after == "" {
				break
			}
		}
		if len(seen) != want || pages > 4 {
			t.Errorf("%s: %d keys on %d pages", query, len(seen), pages+1)
		}
	}
}

func TestKey(t *testing.T) {
	f := start(t)
	f.ask(5, use{"movie", "VIDEO", 1, 11, contentkey.Period{}}, use{"trailer", "VIDEO", 1, 0, contentkey.Period{}})
	var got list
	f.get("/v1/keys/"+strings.ToUpper(kid(1).String()), &got)
	if len(got.Bindings) != 2 || got.Source != "random" || !got.Created.Equal(f.clock()) || !got.Deleted.IsZero() {
		t.Errorf("%+v", got)
	}
	got = list{}
	f.get("/v1/keys/"+kid(11).String(), &got)
	if len(got.Bindings) != 1 || got.Bindings[0].KID != kid(1) || got.Source != "" {
		t.Errorf("by the key ID that was asked for: %+v", got)
	}
	custody, err := f.keys.Custody()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := custody.Delete(t.Context(), "acme", []contentkey.KID{kid(1)}); err != nil {
		t.Fatal(err)
	}
	got = list{}
	f.get("/v1/keys/"+kid(1).String(), &got)
	if got.Deleted.IsZero() {
		t.Error("a deleted key does not say so")
	}
}

// TestKIDRule asks for the key ID before any job runs and compares with what
// the rule gives.
func TestKIDRule(t *testing.T) {
	f := start(t)
	for query, want := range map[string]contentkey.KID{
		"content=movie&track=VIDEO":                                kidrule.UUIDv5.KID(&kidrule.Input{ContentID: "movie", Track: "VIDEO"}),
		"content=movie&track=VIDEO&scheme=cbcs&rule=uuidv5-scheme": kidrule.UUIDv5Scheme.KID(&kidrule.Input{ContentID: "movie", Track: "VIDEO", Scheme: contentkey.Cbcs}),
		"content=movie&period=7&speke=1.0&index=2&rule=sha256-xor": kidrule.SHA256XOR.KID(&kidrule.Input{Tenant: "acme", ContentID: "movie", Period: "7", V1: true, Index: 2}),
		"rule=as-asked&requested=" + kid(1).String():               kid(1),
	} {
		var got struct {
			KID  contentkey.KID
			Rule string
		}
		f.get("/v1/kid?"+query, &got)
		if got.KID != want || got.Rule == "" {
			t.Errorf("%s: %s by %q, want %s", query, got.KID, got.Rule, want)
		}
	}
}

// TestRefusals holds that errors are problems (RFC 9457) and that only the
// role entitlement reads.
func TestRefusals(t *testing.T) {
	f := start(t)
	for _, c := range []struct {
		user, path string
		status     int
	}{
		{"", "/v1/contents/movie/keys", 401},
		{"nobody", "/v1/contents/movie/keys", 401},
		{"encoder", "/v1/contents/movie/keys", 403},
		{"encoder", "/v1/keys/" + kid(1).String(), 403},
		{"encoder", "/v1/events", 403},
		{"encoder", "/v1/kid?content=c", 403},
		{"cms", "/v1/keys/1", 400},
		{"cms", "/v1/keys/" + kid(1).String(), 404},
		{"cms", "/v1/contents/movie/keys?trak=AUDIO", 400},
		{"cms", "/v1/contents/movie/keys?scheme=AES", 400},
		{"cms", "/v1/contents/movie/keys?kid=1", 400},
		{"cms", "/v1/contents/movie/keys?since=noon", 400},
		{"cms", "/v1/contents/movie/keys?limit=0", 400},
		{"cms", "/v1/contents/movie/keys?limit=1001", 400},
		{"cms", "/v1/contents/movie/keys?after=%25", 400},
		{"cms", "/v1/contents/movie/keys?after=eHl6", 400},
		{"cms", "/v1/contents/movie/keys?%zz", 400},
		{"cms", "/v1/contents/movie/live?at=now", 400},
		{"cms", "/v1/kid", 400},
		{"cms", "/v1/kid?rule=axinom&content=c", 400},
		{"cms", "/v1/kid?rule=as-asked", 400},
		{"cms", "/v1/kid?content=c&speke=3", 400},
		{"cms", "/v1/kid?content=c&index=-1", 400},
		{"cms", "/v1/events?wait=51", 400},
		{"cms", "/v1/events?after=eHl6", 410},
		{"cms", "/v1/events?after=MTAwMA", 410},
	} {
		res := f.as(c.user, c.path)
		b, _ := io.ReadAll(res.Body)
		var p struct {
			Title  string
			Status int
		}
		if err := json.Unmarshal(b, &p); err != nil || res.StatusCode != c.status || p.Status != c.status || p.Title == "" ||
			res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %s %s", c.user, c.path, res.Status, b)
		}
		if c.status == 401 && res.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no challenge", c.path)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 405 || res.Header.Get("Allow") == "" {
		t.Errorf("POST: %s", res.Status)
	}
}
