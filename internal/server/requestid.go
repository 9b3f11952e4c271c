package server

import (
	"math/rand/v2"
	"net/http"
)

const headerRequestID = "X-Request-Id"

// maxRequestID bounds a request ID that came from outside.
const maxRequestID = 128

// requestID returns the ID that a request brought, if it is short and
// printable, or a new one.
func requestID(r *http.Request) string {
	if id := r.Header.Get(headerRequestID); id != "" && len(id) <= maxRequestID && printable(id) {
		return id
	}
	return newRequestID()
}

// newRequestID returns 16 characters of base32, 80 random bits. Nothing is
// secret about them, and nothing is let in for them.
func newRequestID() string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	var text [16]byte
	a, b := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		text[i], text[8+i] = digits[a>>(5*i)&31], digits[b>>(5*i)&31]
	}
	return string(text[:])
}

// printable reports whether s is ASCII without blanks, so that it cannot
// forge a line of a log.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
