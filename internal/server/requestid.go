package server

import (
	"crypto/rand"
	"encoding/base32"
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
	var b [10]byte
	rand.Read(b[:])
	var text [16]byte
	base32.StdEncoding.Encode(text[:], b[:])
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
