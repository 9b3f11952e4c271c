package server

import (
	"context"
	"net/http"
	"time"
)

// Route is one entry of the server's surface; the table in routes is the
// whole of it.
type Route struct {
	Method  string
	Path    string
	MaxBody int64         // bytes; a longer body is refused with 413
	Timeout time.Duration // for the whole handling; 0 means none
	Audited bool          // a key request: every answer is recorded

	// ErrorHeader is a header that repeats the text of an error, "" for none.
	ErrorHeader string

	handle func(s *Server, ctx context.Context, w http.ResponseWriter, r *http.Request, body []byte) error
}

// MaxBody bounds a key request. Twenty keys for four systems stay below
// 300 kB (SX-HTTP-08).
const MaxBody = 1 << 20

// requestTimeout bounds the handling of a key request: the encryptor gives up
// by then, and nothing may hang for ever on a database.
const requestTimeout = 20 * time.Second

// Routes returns the server's surface. The path of a key request never
// decides its version (SX-HTTP-02): each path answers each version.
func Routes() []Route {
	var routes []Route
	for _, base := range []string{"/speke/v1.0", "/speke/v2.0", "/speke/v2.1", "/speke"} {
		routes = append(routes, Route{
			Method: http.MethodPost, Path: base + "/copyProtection",
			MaxBody: MaxBody, Timeout: requestTimeout, Audited: true, handle: (*Server).answerKeys,
		})
	}
	// The heartbeat is v1's and deprecated in v2 (S1-HB-01, S2-HB-03); the
	// path without a version serves v1 encryptors too.
	for _, base := range []string{"/speke/v1.0", "/speke"} {
		routes = append(routes, Route{Method: http.MethodGet, Path: base + "/heartbeat", handle: (*Server).heartbeat})
	}
	return append(append(routes, vendorRoutes()...), oauthRoutes()...)
}
