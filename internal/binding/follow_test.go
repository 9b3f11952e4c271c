package binding_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/binding"
)

// batch is an answer with events.
type batch struct {
	Events []binding.Event
	Next   string
}

// TestEvents reads the feed from the beginning, and then what is new.
func TestEvents(t *testing.T) {
	f := start(t)
	f.ask(0, use{"movie", "VIDEO", 1, 0, contentkey.Period{}}, use{"movie", "AUDIO", 2, 0, contentkey.Period{}})
	var first, rest batch
	f.get("/v1/events?limit=1", &first)
	if len(first.Events) != 1 || first.Next == "" {
		t.Fatalf("%+v", first)
	}
	e := first.Events[0]
	if e.SpecVersion != "1.0" || e.Type != binding.EventType || e.Source != "/tenants/acme" || e.Subject != kid(1).String() ||
		len(e.ID) != 64 || !e.Time.Equal(noon) || e.ContentType != "application/json" || e.Data.ContentID != "movie" || e.Data.Track != "VIDEO" {
		t.Errorf("%+v", e)
	}
	f.ask(1, use{"movie", "VIDEO", 1, 0, contentkey.Period{}}) // nothing new
	f.get("/v1/events?after="+first.Next, &rest)
	if len(rest.Events) != 1 || rest.Events[0].Subject != kid(2).String() || rest.Events[0].ID == e.ID {
		t.Errorf("%+v", rest)
	}
	var none batch
	f.get("/v1/events?after="+rest.Next, &none)
	if len(none.Events) != 0 || none.Next != rest.Next {
		t.Errorf("%+v", none)
	}
	var now batch
	f.get("/v1/events?after=latest", &now)
	if len(now.Events) != 0 || now.Next != rest.Next {
		t.Errorf("latest: %+v", now)
	}
}

// TestLongPoll waits for an event that comes later, and not longer than asked.
func TestLongPoll(t *testing.T) {
	f := start(t)
	got := make(chan batch, 1)
	go func() {
		var b batch
		defer func() { got <- b }()
		res := f.as("cms", "/v1/events?after=latest&wait=30")
		_ = json.NewDecoder(res.Body).Decode(&b) // then it is empty
	}()
	select {
	case b := <-got:
		t.Fatalf("at once: %+v", b)
	case <-time.After(100 * time.Millisecond):
	}
	f.ask(0, use{"movie", "VIDEO", 1, 0, contentkey.Period{}})
	select {
	case b := <-got:
		if len(b.Events) != 1 || b.Events[0].Subject != kid(1).String() {
			t.Errorf("%+v", b)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
	}
	from := time.Now()
	var b batch
	f.get("/v1/events?after=latest&wait=1", &b)
	if took := time.Since(from); len(b.Events) != 0 || took < time.Second || took > 5*time.Second {
		t.Errorf("%d events after %s", len(b.Events), took)
	}
}

// stream reads server-sent events.
type stream struct {
	t     *testing.T
	lines chan string
}

func (f *fixture) stream(headers ...string) *stream {
	f.t.Helper()
	res := f.as("cms", "/v1/events", append(headers, "Accept", "text/event-stream")...)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		f.t.Fatalf("%s %s", res.Status, res.Header.Get("Content-Type"))
	}
	s := &stream{f.t, make(chan string, 100)}
	go func() {
		defer close(s.lines)
		for in := bufio.NewScanner(res.Body); in.Scan(); {
			s.lines <- in.Text()
		}
	}()
	return s
}

// next returns the next event and its ID.
func (s *stream) next() (id string, e binding.Event) {
	s.t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				s.t.Fatal("the stream ended")
			}
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "id":
				id = value
			case "data":
				if err := json.Unmarshal([]byte(value), &e); err != nil {
					s.t.Fatal(err)
				}
				return id, e
			}
		case <-late:
			s.t.Fatal("no event")
		}
	}
}

// TestStream follows the feed, is cut off, and goes on where it was.
func TestStream(t *testing.T) {
	f := start(t)
	f.ask(0, use{"movie", "VIDEO", 1, 0, contentkey.Period{}}, use{"movie", "VIDEO", 2, 0, contentkey.Period{}})
	s := f.stream()
	id, e := s.next()
	if e.Subject != kid(1).String() || id == "" {
		t.Fatalf("%s %+v", id, e)
	}
	if _, e = s.next(); e.Subject != kid(2).String() {
		t.Errorf("%+v", e)
	}
	f.ask(1, use{"movie", "VIDEO", 3, 0, contentkey.Period{}})
	if _, e = s.next(); e.Subject != kid(3).String() {
		t.Errorf("%+v", e)
	}
	again := f.stream("Last-Event-ID", id)
	if _, e = again.next(); e.Subject != kid(2).String() {
		t.Errorf("after the first: %+v", e)
	}
	res := f.as("cms", "/v1/events", "Accept", "text/event-stream")
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one client too many: %s", res.Status)
	}
	f.api.Close() // a server that is taken down
	for _, s := range []*stream{s, again} {
		late := time.After(10 * time.Second)
		for open := true; open; {
			select {
			case _, open = <-s.lines:
			case <-late:
				t.Fatal("the stream goes on")
			}
		}
	}
}
