package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"spekeasy/internal/keystore"
)

// Keystore has the counts of a keystore read whenever somebody asks for
// metrics.
func (m *Metrics) Keystore(stats func() keystore.Stats) {
	m.registry.MustRegister(newKeystoreStats(stats))
}

type keystoreStats struct {
	stats func() keystore.Stats

	created, conflicts, hits, misses, keys, bindings *prometheus.Desc
}

func newKeystoreStats(stats func() keystore.Stats) *keystoreStats {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &keystoreStats{
		stats:     stats,
		created:   desc("content_keys_created_total", "Content keys that this process made."),
		conflicts: desc("content_key_conflicts_total", "Answered content keys that were first asked for with another IV, content ID or scheme.", "kind"),
		hits:      desc("cache_hits_total", "Content keys answered from memory."),
		misses:    desc("cache_misses_total", "Content keys read from the database."),
		keys:      desc("cache_keys", "Opened content keys in memory."),
		bindings:  desc("cache_bindings", "Bindings in memory that are known to be recorded."),
	}
}

// Describe implements [prometheus.Collector].
func (k *keystoreStats) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{k.created, k.conflicts, k.hits, k.misses, k.keys, k.bindings} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (k *keystoreStats) Collect(ch chan<- prometheus.Metric) {
	s := k.stats()
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	count(k.created, s.Created)
	count(k.conflicts, s.OtherIV, "iv")
	count(k.conflicts, s.OtherContent, "content_id")
	count(k.conflicts, s.OtherScheme, "scheme")
	count(k.hits, s.CacheHits)
	count(k.misses, s.CacheMisses)
	ch <- prometheus.MustNewConstMetric(k.keys, prometheus.GaugeValue, float64(s.CachedKeys))
	ch <- prometheus.MustNewConstMetric(k.bindings, prometheus.GaugeValue, float64(s.KnownBindings))
}
