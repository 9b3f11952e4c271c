package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler answers with all metrics in the text formats of Prometheus and
// OpenMetrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// Telemetry has the number of spans and log records that did not reach the
// collector read whenever somebody asks for metrics.
func (m *Metrics) Telemetry(dropped func() (spans, logs uint64)) {
	for signal, count := range map[string]func() float64{
		"traces": func() float64 { spans, _ := dropped(); return float64(spans) },
		"logs":   func() float64 { _, logs := dropped(); return float64(logs) },
	} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: namespace, Name: "telemetry_dropped_total", ConstLabels: prometheus.Labels{"signal": signal},
			Help: "Spans and log records that did not reach the collector.",
		}, count))
	}
}
