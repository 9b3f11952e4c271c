package vendorsim

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
)

// The vendors.
const (
	Axinom   = "axinom"
	Insys    = "insys"    // Insys Cloud DRM, drm.cloud
	PallyCon = "pallycon" // DoveRunner by its new name
	KeyOS    = "keyos"    // BuyDRM KeyOS
	Generic  = "generic"  // any key provider that keeps to SPEKE
)

// Vendors lists all vendors by name.
func Vendors() []string { return []string{Axinom, Insys, PallyCon, KeyOS, Generic} }

// Auth is how an upstream knows who asks.
type Auth string

// The ways in.
const (
	Basic    Auth = "basic"     // Authorization: Basic with User and Secret
	OAuth    Auth = "oauth2"    // a bearer token from TokenURL for the client User and Secret, parameters in the query
	APIKey   Auth = "api-key"   // header X-API-KEY with Secret
	EncToken Auth = "enc-token" // query parameter enc-token with Secret (SPEKE 1.0), last segment of the path (2.x)
	UserKey  Auth = "user-key"  // header keyos-userkey with Secret, in requests for clear keys only
)

// Upstream says where a vendor's key service is and how to be let in. Its
// text form is one word, a URL whose scheme names the vendor:
//
//	axinom+http://TENANT:KEY@HOST/api/Speke
//	insys+http://CLIENT:SECRET@HOST/kms/speke?tenantId=ID#token=/oauth/token,scope=SCOPE
//	insys+http://:APIKEY@HOST/kms/speke?tenantId=ID
//	insys+http://LOGIN:PASSWORD@HOST/kms/speke?tenantId=ID
//	pallycon+http://TOKEN@HOST/cpix/getKey
//	keyos+http://USERKEY@HOST/copyProtection
//	generic+http://USER:PASSWORD@HOST/speke/copyProtection
//
// The same goes for +https. User and password of the URL are the credential,
// percent-encoded where a URL demands it. The query is part of the vendor's
// own URL and travels with every request; what follows the number sign never
// travels: "token" is where an OAuth client gets its tokens, relative to the
// URL, "scope" what it asks for, and "v2" the URL for SPEKE 2.x where it is
// not the one that the vendor's preset gives:
//
//	axinom    the last segment, Speke, becomes SpekeV2
//	insys     the last segment, speke, becomes speke2
//	pallycon  /v2/cpix/pallycon/getKey/ on the same host, with the token at the end
//	keyos     /v2 before the path
//	generic   the same URL
//
// An Upstream holds a secret: fmt and log/slog show it without.
type Upstream struct {
	Vendor string
	V1, V2 *url.URL // for SPEKE 1.0 and for 2.x; V2 of PallyCon ends with a slash, for the token
	Auth   Auth
	User   string // of Basic and OAuth
	Secret string

	TokenURL *url.URL // of OAuth
	Scope    string   // of OAuth

	Heartbeat *url.URL // nil when the vendor has none; the answer to a GET is SUCCESS
}

// secondURL is the URL for SPEKE 2.x that the vendor's preset gives.
func (up *Upstream) secondURL() *url.URL {
	u := *up.V1
	switch up.Vendor {
	case Axinom:
		u.Path = replaceEnd(u.Path, "/Speke", "/SpekeV2")
	case Insys:
		u.Path = replaceEnd(u.Path, "/speke", "/speke2")
	case PallyCon:
		u.Path = pallyConV2
	case KeyOS:
		u.Path = "/v2" + u.Path
	}
	u.RawPath = ""
	return &u
}

func replaceEnd(s, old, with string) string {
	if head, ok := strings.CutSuffix(s, old); ok {
		return head + with
	}
	return s
}

// Word returns the text form, secret included.
func (up *Upstream) Word() string {
	u := *up.V1
	u.Scheme = up.Vendor + "+" + u.Scheme
	switch up.Auth {
	case EncToken, UserKey:
		u.User = url.User(up.Secret)
	default:
		u.User = url.UserPassword(up.User, up.Secret)
	}
	word := u.String()
	var hints []string
	if up.TokenURL != nil {
		hints = append(hints, "token="+up.relative(up.TokenURL))
	}
	if up.Scope != "" {
		hints = append(hints, "scope="+url.PathEscape(up.Scope))
	}
	if up.V2 != nil && up.V2.String() != up.secondURL().String() {
		hints = append(hints, "v2="+up.relative(up.V2))
	}
	if len(hints) > 0 {
		word += "#" + strings.Join(hints, ",")
	}
	return word
}

// relative shortens a URL on the host of V1, and hides the commas in it.
func (up *Upstream) relative(u *url.URL) string {
	text := u.String()
	if u.Scheme == up.V1.Scheme && u.Host == up.V1.Host {
		text = u.RequestURI()
	}
	return strings.NewReplacer("%", "%25", ",", "%2C", "#", "%23").Replace(text)
}

// String shows the upstream without its credential and query.
func (up *Upstream) String() string {
	u := url.URL{Scheme: up.Vendor + "+" + up.V1.Scheme, Host: up.V1.Host, Path: up.V1.Path}
	return u.String()
}

// Format shows String under every verb.
func (up *Upstream) Format(f fmt.State, _ rune) { fmt.Fprint(f, up.String()) }

// LogValue shows String.
func (up *Upstream) LogValue() slog.Value { return slog.StringValue(up.String()) }
