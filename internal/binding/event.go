package binding

import (
	"encoding/hex"
	"net/url"
	"time"

	"spekeasy/internal/keystore"
)

// EventType is the type of the events.
const EventType = "spekeasy.binding.created"

// Event says that a content key was asked for by a name, track and period
// that it had not been asked for before, as a CloudEvent 1.0 in its structured
// JSON form. The same event always has the same ID, however often it comes.
type Event struct {
	SpecVersion string    `json:"specversion"` // "1.0"
	ID          string    `json:"id"`          // the binding's identity, hexadecimal
	Source      string    `json:"source"`      // /tenants/ID
	Type        string    `json:"type"`        // EventType
	Subject     string    `json:"subject"`     // the key ID
	Time        time.Time `json:"time"`        // when it was first asked for
	ContentType string    `json:"datacontenttype"`
	Data        Binding   `json:"data"` // as it is when the event is sent
}

// The media types of CloudEvents, and of their stream.
const (
	typeEvent  = "application/cloudevents+json"
	typeStream = "text/event-stream"
)

func newEvent(b *keystore.Binding) *Event {
	id := b.Identity()
	return &Event{
		SpecVersion: "1.0", ID: hex.EncodeToString(id[:]), Source: "/tenants/" + url.PathEscape(b.Tenant), Type: EventType,
		Subject: b.KID.String(), Time: b.FirstSeen.UTC(), ContentType: "application/json", Data: newBinding(b),
	}
}
