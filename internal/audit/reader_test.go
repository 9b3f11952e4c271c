package audit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"spekeasy/internal/audit"
)

type reader interface {
	Read(ctx context.Context, q *audit.Query, after string, yield func(place string, text []byte, r *audit.Record) error) error
}

// TestReadOn reads a log in pages: each begins where the one before ended, and
// together they are the log.
func TestReadOn(t *testing.T) {
	dir := t.TempDir()
	files, err := audit.OpenFiles(dir, audit.FileOptions{SegmentBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	l := openLog(t, audit.Options{}, files)
	put(t, l, 0, 20)
	end(t, l)

	db, _ := database(t)
	for server := range 3 {
		now := morning.Add(time.Duration(server) * time.Second)
		l := openLog(t, audit.Options{Now: func() time.Time { return now }}, audit.NewDatabase(db, now))
		put(t, l, 10*server, 10*server+5)
		now = now.Add(24 * time.Hour) // another part
		put(t, l, 10*server+5, 10*server+10)
		end(t, l)
	}

	for name, c := range map[string]struct {
		reader
		records int
	}{
		"directory": {audit.Directory(dir), 20},
		"database":  {audit.InStore{Store: db}, 30},
	} {
		for _, limit := range []int{1, 4, 1000} {
			t.Run(fmt.Sprint(name, " by ", limit), func(t *testing.T) {
				full := errors.New("full")
				q := &audit.Query{ContentID: "movie"}
				var after string
				for n, pages := 0, 0; ; pages++ {
					inPage := 0
					err := c.Read(t.Context(), q, after, func(place string, _ []byte, r *audit.Record) error {
						if inPage == limit {
							return full
						}
						if want := fmt.Sprint("request-", n); r.RequestID != want {
							t.Fatalf("after %q comes %s, not %s", after, r.RequestID, want)
						}
						n, inPage, after = n+1, inPage+1, place
						return nil
					})
					if err == nil {
						if n != c.records || pages != (n-1)/limit {
							t.Errorf("%d records in %d full pages", n, pages)
						}
						break
					}
					if !errors.Is(err, full) {
						t.Fatal(err)
					}
				}
			})
		}
		for _, place := range []string{"x", "-1", ":", "a/000001:", "a/000001:x", "99999999999999999999"} {
			if err := c.Read(t.Context(), &audit.Query{}, place, nil); !errors.Is(err, audit.ErrPlace) {
				t.Errorf("%s: after %q: %v", name, place, err)
			}
		}
	}
}
