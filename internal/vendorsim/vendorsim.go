// Package vendorsim stands in for the key services of DRM vendors in tests:
// servers that behave as the vendors' public material says, with their
// oddities, and that fail on demand. `spekeasy simulate` runs one.
//
// What is not public is ours and marked so where it is made: the paths that
// vendors show to customers only, and their rules for key IDs. Nothing here
// is a vendor's key: content keys and IVs are derived from a seed, see
// [Keys], so that a test can tell what a right answer has in it.
//
// Each vendor is one file.
package vendorsim

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// DefaultSeed is the seed of a simulator that was given none.
const DefaultSeed = "spekeasy simulate"

// Options are the settings of a simulator; the zero value is useful.
type Options struct {
	// Seed is any text; content keys, IVs and credentials follow from it. ""
	// is [DefaultSeed].
	Seed string

	// Auth chooses the one way in where a vendor has several: OAuth (default),
	// APIKey or Basic for Insys.
	Auth Auth

	// TokenLifetime is how long the tokens of an OAuth client live; 0 is an hour.
	TokenLifetime time.Duration

	// Registered are the certificates by which KeyOS knows its customers; nil
	// takes every certificate that content keys can be encrypted to.
	Registered []*x509.Certificate

	// Faults befall key requests, each with its probability; the first that
	// strikes is the one.
	Faults []Fault

	// Delay is how long the fault slow takes; 0 is two seconds.
	Delay time.Duration

	// Observe is told of every request once it is answered, if not nil. It is
	// called concurrently.
	Observe func(Exchange)

	Now    func() time.Time // nil is time.Now
	Random io.Reader        // of document keys and tokens; nil is crypto/rand
	Chance func() float64   // in [0,1), decides on faults, safe for concurrent use; nil is math/rand/v2
}

// Exchange is one request that a simulator saw.
type Exchange struct {
	Method string
	URL    *url.URL
	Header http.Header
	Body   []byte
	Status int    // of the answer; 0 for none
	Fault  string // kind of the fault that struck, or ""
}

// Server is a simulator. It is an [http.Handler] and safe for concurrent use.
type Server struct {
	name   string
	vendor vendor
	mux    *http.ServeMux
	seed   string
	keys   keystore.Source
	o      Options

	mu     sync.Mutex
	denied map[[sha256.Size]byte]bool // requests whose next try must pass, of the fault 401once
}

// vendor is what one vendor's file says.
type vendor interface {
	// routes adds the vendor's handlers.
	routes(mux *http.ServeMux)

	// upstream fills in paths and credential; V1 has scheme and host already.
	upstream(up *Upstream)

	// refuse answers an error as the vendor does.
	refuse(w http.ResponseWriter, status int, text string)
}

// maxBody bounds a request.
const maxBody = 1 << 20

// New returns a simulator of one of [Vendors].
func New(name string, o Options) (*Server, error) {
	if o.Seed == "" {
		o.Seed = DefaultSeed
	}
	if o.TokenLifetime == 0 {
		o.TokenLifetime = time.Hour
	}
	if o.Delay == 0 {
		o.Delay = 2 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Chance == nil {
		o.Chance = mathrand.Float64
	}
	s := &Server{name: name, seed: o.Seed, o: o, mux: http.NewServeMux(), denied: make(map[[sha256.Size]byte]bool)}
	var err error
	if s.keys, err = Keys(o.Seed); err != nil {
		return nil, err
	}
	if o.Auth != "" && name != Insys {
		return nil, fmt.Errorf("vendor %s has one way in only", name)
	}
	switch name {
	case Axinom:
		s.vendor, err = newAxinom(s)
	case Insys:
		s.vendor, err = newInsys(s)
	case PallyCon:
		s.vendor, err = newPallyCon(s)
	case KeyOS:
		s.vendor, err = newKeyOS(s)
	case Generic:
		s.vendor, err = newGeneric(s)
	default:
		return nil, fmt.Errorf("vendor %q is none of %s", name, strings.Join(Vendors(), ", "))
	}
	if err != nil {
		return nil, err
	}
	s.vendor.routes(s.mux)
	return s, nil
}

// Upstream says how to reach the simulator behind a base URL such as
// http://127.0.0.1:8080.
func (s *Server) Upstream(base string) (*Upstream, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	up := &Upstream{Vendor: s.name, V1: &url.URL{Scheme: u.Scheme, Host: u.Host}}
	s.vendor.upstream(up)
	up.V2 = up.secondURL()
	return up, nil
}

// Keys returns the source of a simulator's content keys and IVs: HKDF-SHA256
// of the seed's SHA-256 digest, for the tenant "vendorsim" and the key ID of
// the answer.
func Keys(seed string) (keystore.Source, error) {
	sum := sha256.Sum256([]byte(seed))
	return keystore.NewHKDF(sum[:])
}

func (s *Server) key(kid contentkey.KID) (contentkey.Value, contentkey.IV, error) {
	return s.keys.Make("vendorsim", kid)
}

// Key returns the content key and IV that a simulator with the seed answers
// for a key ID.
func Key(seed string, kid contentkey.KID) (contentkey.Value, contentkey.IV, error) {
	keys, err := Keys(seed)
	if err != nil {
		return contentkey.Value{}, contentkey.IV{}, err
	}
	return keys.Make("vendorsim", kid)
}

// secret derives a credential from the seed: the text of a GUID.
func (s *Server) secret(name string) string {
	sum := sha256.Sum256([]byte(s.seed + "\x00" + s.name + "\x00" + name))
	return contentkey.KID(sum[:16]).String()
}

// hasBasic reports whether the request presents this user and password.
func hasBasic(r *http.Request, user, password string) bool {
	u, p, ok := r.BasicAuth()
	return ok && same(u, user) && same(p, password)
}

func same(presented, want string) bool {
	return subtle.ConstantTimeCompare([]byte(presented), []byte(want)) == 1
}

// ServeHTTP answers as the vendor does, unless a fault strikes.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "request body", http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	a := &answer{header: make(http.Header)}
	fault := s.strike(r, body)
	if before(s, fault, a, r) {
		s.mux.ServeHTTP(a, r)
		after(fault, a)
	}
	if s.o.Observe != nil {
		defer s.o.Observe(Exchange{Method: r.Method, URL: r.URL, Header: r.Header, Body: body, Status: a.status, Fault: fault})
	}
	a.send(w)
}

// answer is an answer in the making. It is an [http.ResponseWriter].
type answer struct {
	header http.Header
	status int
	body   []byte
	half   bool // send the first half of the body, then break the connection
	abort  bool // break the connection
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, b...)
	return len(b), nil
}

// say makes this the answer, with status 200.
func (a *answer) say(contentType, text string) {
	a.header.Set("Content-Type", contentType)
	a.status, a.body = http.StatusOK, []byte(text)
}

// send writes the answer out.
func (a *answer) send(w http.ResponseWriter) {
	if a.abort {
		reset(w)
		return
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(a.body)))
	w.WriteHeader(a.status)
	if !a.half {
		w.Write(a.body) //nolint:errcheck // the client is gone, nothing to do
		return
	}
	w.Write(a.body[:len(a.body)/2]) //nolint:errcheck // as above
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	reset(w)
}
