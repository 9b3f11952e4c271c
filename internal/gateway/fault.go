package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"spekeasy/speke"
)

// Kind says in one word what went wrong between us and an upstream.
type Kind string

// The kinds.
const (
	Connection  Kind = "connection"  // it cannot be reached
	Timeout     Kind = "timeout"     // it did not answer in time
	Interrupted Kind = "interrupted" // the connection broke before the answer was whole
	Busy        Kind = "busy"        // as many requests as allowed are under way, or it said so
	Paused      Kind = "paused"      // it failed so often that it is left alone for a while
	Credentials Kind = "credentials" // it does not let us in, or we got no token
	Refused     Kind = "refused"     // it answered an error of the 4xx kind
	Broken      Kind = "broken"      // it answered an error of the 5xx kind
	NotCPIX     Kind = "not-cpix"    // it answered 200 with something else
	Invalid     Kind = "invalid"     // it answered CPIX that does not fit what was asked
	Unsupported Kind = "unsupported" // what the encryptor wants is not to be had from it
	Conflict    Kind = "conflict"    // its keys contradict those that were answered before
	Gone        Kind = "gone"        // the encryptor did not wait
)

// Fault is why an upstream did not give the keys that it was asked for.
type Fault struct {
	Kind     Kind
	Sentence string // what is wrong, in our words: for the encryptor too
	Words    string // what the upstream or the network said, redacted: for logs and records
	Status   int    // of the upstream's answer; 0 without one

	passOn string // an error text of the specification that goes to the encryptor (SX-GW-01)
	again  bool   // asking once more is safe
	down   bool   // it says something about the upstream, not about the request
	cause  error
}

func (f *Fault) Error() string {
	text := string(f.Kind) + ": " + f.Sentence
	if f.Words != "" {
		text += ": " + f.Words
	}
	return text
}

func (f *Fault) Unwrap() error { return f.cause }

func invalid(format string, args ...any) *Fault {
	return &Fault{Kind: Invalid, Sentence: fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) *Fault {
	return &Fault{Kind: Unsupported, Sentence: fmt.Sprintf(format, args...)}
}

// refusal is the answer to the encryptor: 422 for what is about its request,
// else 502, or 504 for a timeout, with a sentence of ours and the ID under
// which the rest is to be found (SX-GW-01).
func (f *Fault) refusal(source, requestID string) error {
	switch {
	case f.passOn != "":
		return &speke.Error{Status: http.StatusUnprocessableEntity, Text: f.passOn, Cause: f}
	case f.Kind == Gone:
		return errors.Join(context.Canceled, f)
	}
	status := http.StatusBadGateway
	switch f.Kind {
	case Timeout:
		status = http.StatusGatewayTimeout
	case Unsupported:
		status = http.StatusUnprocessableEntity
	}
	text := "Upstream key provider " + source + ": " + f.Sentence
	if requestID != "" {
		text += " (request ID " + requestID + ")"
	}
	return &speke.Error{Status: status, Text: text, Cause: f}
}
