package metrics

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

const (
	contentType    = "text/plain; version=0.0.4; charset=utf-8"
	maxConcurrency = 4 // readers at a time; more are told to come again
)

// Handler answers with all metrics in the text format of Prometheus.
func (m *Metrics) Handler() http.Handler {
	free := make(chan struct{}, maxConcurrency)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case free <- struct{}{}:
			defer func() { <-free }()
		default:
			http.Error(w, "too many requests for metrics at a time", http.StatusServiceUnavailable)
			return
		}
		text := m.page().text()
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Vary", "Accept-Encoding")
		to := io.Writer(w)
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			defer z.Close()
			to = z
		}
		_, _ = to.Write(text) // whoever went away gets nothing
	})
}

// page asks everybody who has metrics.
func (m *Metrics) page() *page {
	m.mu.Lock()
	sources := m.sources[:len(m.sources):len(m.sources)]
	m.mu.Unlock()
	p := &page{families: make(map[string]*family)}
	for _, collect := range sources {
		collect(p)
	}
	return p
}

// Telemetry has the number of spans and log records that did not reach the
// collector read whenever somebody asks for metrics.
func (m *Metrics) Telemetry(dropped func() (spans, logs uint64)) {
	m.source(func(p *page) {
		spans, logs := dropped()
		f := p.family(namespace+"_telemetry_dropped_total", "Spans and log records that did not reach the collector.", typeCounter)
		f.add(float64(logs), "signal", "logs")
		f.add(float64(spans), "signal", "traces")
	})
}
