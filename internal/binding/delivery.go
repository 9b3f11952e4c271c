package binding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// Delivery is how far a webhook has come. It is kept in the database.
type Delivery struct {
	Position  string `json:"position"` // in the feed; everything up to it is delivered or a dead letter
	Delivered int64  `json:"delivered"`

	Failures     int       `json:"failures,omitempty"` // in a row, of the next event
	FailingSince time.Time `json:"failing_since,omitzero"`
	NextTry      time.Time `json:"next_try,omitzero"`
	LastError    string    `json:"last_error,omitempty"`

	Dead  []DeadLetter `json:"dead,omitempty"`
	Again []DeadLetter `json:"again,omitempty"` // dead letters to be tried once more, before what is new

	Holder string    `json:"holder,omitempty"` // the process that delivers
	Lease  time.Time `json:"lease,omitzero"`   // until when nobody else does
}

// DeadLetter is an event that could not be delivered.
type DeadLetter struct {
	After     string         `json:"after"` // the position before it
	Event     string         `json:"event"` // its ID
	KID       contentkey.KID `json:"kid"`
	ContentID string         `json:"content_id"` // its beginning, if it is long
	Error     string         `json:"error"`
	At        time.Time      `json:"at"`
}

// maxDead bounds the dead letters of a webhook; then delivery waits, so that
// none is lost.
const maxDead = 300

func shorten(s string) string {
	if len(s) > 100 {
		return s[:100]
	}
	return s
}

// ErrNoDelivery reports a webhook that nothing was delivered to yet.
var ErrNoDelivery = errors.New("nothing was ever delivered to this webhook")

// ErrChanged reports a state that changed meanwhile; try again.
var ErrChanged = errors.New("the state of the webhook changed at the same time")

func noteName(tenant, name string) string { return "webhook/" + tenant + "/" + name }

// LoadDelivery reads how far a webhook has come. The version is 0 when that is
// nowhere yet.
func LoadDelivery(ctx context.Context, feed keystore.Feed, tenant, name string) (*Delivery, int64, error) {
	text, version, err := feed.Note(ctx, noteName(tenant, name))
	if err != nil {
		return nil, 0, fmt.Errorf("webhook %s/%s: %w", tenant, name, err)
	}
	d := &Delivery{}
	if version == 0 {
		return d, 0, nil
	}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, 0, fmt.Errorf("webhook %s/%s: %w: its state", tenant, name, keystore.ErrCorrupt)
	}
	return d, version, nil
}

func (d *Delivery) save(ctx context.Context, feed keystore.Feed, tenant, name string, version int64) (bool, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return false, err
	}
	ok, err := feed.SetNote(ctx, noteName(tenant, name), text, version)
	if err != nil {
		return false, fmt.Errorf("webhook %s/%s: %w", tenant, name, err)
	}
	return ok, nil
}

// Replay says what is to be delivered again.
type Replay struct {
	All  bool // everything, from the beginning of the feed
	Dead bool // the dead letters
	Now  bool // nothing, but try at once what failed
}

// Replay has events delivered again, by whichever process delivers. It
// returns how many dead letters are to be tried.
func (r Replay) Replay(ctx context.Context, feed keystore.Feed, tenant, name string) (dead int, err error) {
	d, version, err := LoadDelivery(ctx, feed, tenant, name)
	if err != nil {
		return 0, err
	}
	if version == 0 && !r.All {
		return 0, ErrNoDelivery
	}
	d.Failures, d.FailingSince, d.NextTry = 0, time.Time{}, time.Time{}
	d.Holder, d.Lease = "", time.Time{} // of a process that may be gone
	if r.All {
		d.Position, d.Dead, d.Again = "", nil, nil
	}
	if r.Dead {
		dead = len(d.Dead)
		d.Again, d.Dead = append(d.Again, d.Dead...), nil
	}
	ok, err := d.save(ctx, feed, tenant, name, version)
	if err == nil && !ok {
		err = ErrChanged
	}
	return dead, err
}

// withoutURL takes the URL out of an error of package net/http: it may have a
// secret in it.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
