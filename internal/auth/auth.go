// Package auth finds out who sent a request. Each way in is one file and one
// [Method]; a request is accepted by the first method that recognizes a
// credential of its kind in it.
package auth

import (
	"errors"
	"net/http"
)

// Principal is who a credential proved to be.
type Principal struct {
	Tenant     string // whose keys may be asked for
	Credential string // name of the credential, for records; never the secret
}

var (
	// ErrUnauthenticated reports a credential that is missing, wrong or
	// expired, or whose tenant does not exist. There is one answer to all of
	// them, so that nobody learns which it was (SX-AUTH-08).
	ErrUnauthenticated = errors.New("unauthenticated")

	// ErrForbidden reports a valid credential that may not do this.
	ErrForbidden = errors.New("forbidden")

	// errAbsent is a method's word that the request carries no credential of
	// its kind, so that the next one may look.
	errAbsent = errors.New("no such credential in the request")
)

// Method is one way in.
type Method interface {
	// Authenticate returns whom the request's credential of this kind proves,
	// errAbsent when there is none, or an error that wraps
	// ErrUnauthenticated. body is the whole request body, which some kinds
	// cover with a signature.
	authenticate(r *http.Request, body []byte) (*Principal, error)

	// Challenge is the value of the WWW-Authenticate header that invites this
	// kind, "" for none.
	challenge() string
}

// Authenticator tries several methods in order.
type Authenticator struct {
	methods []Method
}

// New returns an authenticator. Without methods it lets nobody in.
func New(methods ...Method) *Authenticator { return &Authenticator{methods: methods} }

// Authenticate returns who sent the request, or an error that wraps
// ErrUnauthenticated or ErrForbidden.
func (a *Authenticator) Authenticate(r *http.Request, body []byte) (*Principal, error) {
	for _, m := range a.methods {
		p, err := m.authenticate(r, body)
		if errors.Is(err, errAbsent) {
			continue
		}
		return p, err
	}
	return nil, ErrUnauthenticated
}

// Challenge adds the WWW-Authenticate headers of a 401 answer.
func (a *Authenticator) Challenge(h http.Header) {
	for _, m := range a.methods {
		if c := m.challenge(); c != "" {
			h.Add("WWW-Authenticate", c)
		}
	}
}
