package metrics

// webhookResults are what can become of an attempt to deliver an event.
var webhookResults = []string{"delivered", "failed", "dead"}

// webhooks counts deliveries of events, of all webhooks together.
type webhooks struct {
	total map[string]*counter
}

func (w *webhooks) init(m *Metrics) {
	total := m.counter("webhook_events_total", "Attempts to deliver an event to a webhook, by what became of them.", "result")
	w.total = make(map[string]*counter, len(webhookResults))
	for _, result := range webhookResults {
		w.total[result] = total.with(result)
	}
}

// Webhook notes an attempt to deliver an event: it was "delivered", has
// "failed" and will be tried again, or the event is "dead", set aside.
func (m *Metrics) Webhook(result string) {
	if c := m.webhooks.total[result]; c != nil {
		c.inc()
	}
}
