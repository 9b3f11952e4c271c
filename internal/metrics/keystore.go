package metrics

import "spekeasy/internal/keystore"

// Keystore has the counts of a keystore read whenever somebody asks for
// metrics.
func (m *Metrics) Keystore(stats func() keystore.Stats) {
	m.source(func(p *page) {
		s := stats()
		family := func(name, help, kind string) *family { return p.family(namespace+"_"+name, help, kind) }

		family("content_keys_created_total", "Content keys that this process made.", typeCounter).add(float64(s.Created))
		conflicts := family("content_key_conflicts_total", "Answered content keys that were first asked for with another IV, content ID or scheme.", typeCounter)
		conflicts.add(float64(s.OtherContent), "kind", "content_id")
		conflicts.add(float64(s.OtherIV), "kind", "iv")
		conflicts.add(float64(s.OtherScheme), "kind", "scheme")
		family("cache_hits_total", "Content keys answered from memory.", typeCounter).add(float64(s.CacheHits))
		family("cache_misses_total", "Content keys read from the database.", typeCounter).add(float64(s.CacheMisses))
		family("cache_keys", "Opened content keys in memory.", typeGauge).add(float64(s.CachedKeys))
		family("cache_bindings", "Bindings in memory that are known to be recorded.", typeGauge).add(float64(s.KnownBindings))
	})
}
