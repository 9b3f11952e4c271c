package metrics_test

import (
	"compress/gzip"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/metrics"
)

// One family as Prometheus' text format, version 0.0.4, has it: the count is
// that of the last bucket, and values of labels are escaped.
func TestFormat(t *testing.T) {
	m := metrics.New(metrics.Build{Version: "v1", Commit: "a\"b\\c\nd\xff"})
	for _, took := range []time.Duration{0, 100 * time.Microsecond, 100*time.Microsecond + 1, 20 * time.Second, time.Minute} {
		m.AuditRecord(took, nil)
	}
	text := scrape(t, m)
	wants(t, text, `spekeasy_build_info{commit="a\"b\\c\nd`+"\uFFFD"+`",version="v1"} 1`)
	const want = `
# HELP spekeasy_audit_record_duration_seconds How long requests waited for their audit record.
# TYPE spekeasy_audit_record_duration_seconds histogram
spekeasy_audit_record_duration_seconds_bucket{le="0.0001"} 2
spekeasy_audit_record_duration_seconds_bucket{le="0.00025"} 3
spekeasy_audit_record_duration_seconds_bucket{le="0.0005"} 3
spekeasy_audit_record_duration_seconds_bucket{le="0.001"} 3
spekeasy_audit_record_duration_seconds_bucket{le="0.0025"} 3
spekeasy_audit_record_duration_seconds_bucket{le="0.005"} 3
spekeasy_audit_record_duration_seconds_bucket{le="0.01"} 3
spekeasy_audit_record_duration_seconds_bucket{le="0.025"} 3
spekeasy_audit_record_duration_seconds_bucket{le="0.05"} 3
spekeasy_audit_record_duration_seconds_bucket{le="0.1"} 3
spekeasy_audit_record_duration_seconds_bucket{le="0.25"} 3
spekeasy_audit_record_duration_seconds_bucket{le="0.5"} 3
spekeasy_audit_record_duration_seconds_bucket{le="1"} 3
spekeasy_audit_record_duration_seconds_bucket{le="2.5"} 3
spekeasy_audit_record_duration_seconds_bucket{le="5"} 3
spekeasy_audit_record_duration_seconds_bucket{le="10"} 3
spekeasy_audit_record_duration_seconds_bucket{le="20"} 4
spekeasy_audit_record_duration_seconds_bucket{le="+Inf"} 5
spekeasy_audit_record_duration_seconds_sum 80.000200001
spekeasy_audit_record_duration_seconds_count 5
# HELP spekeasy_audit_records_total Records written to the audit log.
# TYPE spekeasy_audit_records_total counter
spekeasy_audit_records_total 5
`
	if !strings.Contains(text, want) {
		t.Errorf("the audit log is told as\n%s\nwant%s", grep(text, "spekeasy_audit_record"), want)
	}
	if strings.Contains(text, "# TYPE spekeasy_ready ") {
		t.Error("a family without samples is told")
	}
}

// Who can read gzip gets it, with the same text.
func TestCompressed(t *testing.T) {
	m := metrics.New(metrics.Build{Version: "v1"})
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept-Encoding", "zstd, gzip;q=0.9")
	m.Handler().ServeHTTP(w, r)
	if got := w.Header().Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("Content-Encoding %q", got)
	}
	if got := w.Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, string(text), `spekeasy_build_info{commit="",version="v1"} 1`)
}

// Readers that wait for a slow source are told to come again, not queued.
func TestReadersAreBounded(t *testing.T) {
	m := metrics.New(metrics.Build{})
	inside, release := make(chan struct{}), make(chan struct{})
	m.Upstreams(func() []metrics.Upstream {
		inside <- struct{}{}
		<-release
		return nil
	})
	h := m.Handler()
	read := func() int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return w.Code
	}
	codes := make(chan int)
	for range 4 {
		go func() { codes <- read() }()
		<-inside
	}
	if code := read(); code != http.StatusServiceUnavailable {
		t.Errorf("the fifth reader got %d", code)
	}
	close(release)
	for range 4 {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("a reader got %d", code)
		}
	}
}

// What dashboards and alerts say about the process.
func TestProcess(t *testing.T) {
	text := scrape(t, metrics.New(metrics.Build{}))
	value := func(name string) float64 {
		_, v, ok := strings.Cut(grep(text, name+" "), " ")
		if !ok {
			t.Errorf("no %s", name)
			return math.NaN()
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil {
			t.Error(err)
		}
		return f
	}
	wants(t, text, `go_info{version="`+runtime.Version()+`"} 1`)
	for name, atLeast := range map[string]float64{
		"go_goroutines": 2, "go_threads": 1, "go_sched_gomaxprocs_threads": 1, "go_memstats_heap_inuse_bytes": 100e3, "go_memstats_sys_bytes": 1e6,
		"go_gc_duration_seconds_count": 0,
	} {
		if v := value(name); !(v >= atLeast) {
			t.Errorf("%s is %v", name, v)
		}
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return // the others come from there
	}
	started := time.Unix(int64(value("process_start_time_seconds")), 0)
	if age := time.Since(started); age < -2*time.Second || age > 20*time.Minute {
		t.Errorf("started %v ago", age)
	}
	resident, virtual := value("process_resident_memory_bytes"), value("process_virtual_memory_bytes")
	if resident < 1e6 || resident > 10e9 || virtual < resident {
		t.Errorf("%v bytes are resident of %v", resident, virtual)
	}
	if fds, limit := value("process_open_fds"), value("process_max_fds"); fds < 3 || fds > limit {
		t.Errorf("%v files are open of %v", fds, limit)
	}
	if cpu := value("process_cpu_seconds_total"); !(cpu >= 0 && cpu < 3600) {
		t.Errorf("%v CPU seconds", cpu)
	}
}
