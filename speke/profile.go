// Package speke answers key requests of AWS SPEKE 1.0, 2.0 and 2.1.
//
// [ParseRequest] reads the headers and the CPIX document of a request and
// checks everything that can be checked without a key; [Request.Answer]
// splices keys and signaling into the document. What happens in between,
// finding the keys and making the signaling, is the caller's. The package
// knows header names and status numbers but no connection.
//
// Rule numbers in the comments, such as S2-ERR-13, are those of
// docs/conformance.md.
package speke

import (
	"net/http"
	"strings"

	"spekeasy/cpix"
)

// Profile is a version of SPEKE with its payload and checks.
type Profile uint8

// The profiles.
const (
	V10 Profile = iota + 1 // SPEKE 1.0, CPIX 2.0
	V20                    // SPEKE 2.0, CPIX 2.3
	V21                    // SPEKE 2.1, CPIX 2.4
)

var profiles = [...]struct{ version, cpix string }{V10: {"1.0", ""}, V20: {"2.0", "2.3"}, V21: {"2.1", "2.4"}}

// String returns the version number, such as "2.0".
func (p Profile) String() string {
	if int(p) < len(profiles) {
		return profiles[p].version
	}
	return ""
}

// Header names. http.Header canonicalizes them, so that any letter case
// matches (SX-HTTP-03).
const (
	HeaderVersion     = "X-Speke-Version"
	HeaderUserAgent   = "X-Speke-User-Agent" // of answers, v2
	HeaderUserAgentV1 = "Speke-User-Agent"   // of answers, v1
	ContentType       = "application/xml"
)

// profileOf decides the profile by the header alone (S2-VER-02, -03; an
// explicit 1.0 is v1, S2-VER-07). It is zero when there is no header.
func profileOf(h http.Header) (Profile, error) {
	values := h.Values(HeaderVersion)
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return 0, nil
	}
	for p := V10; p <= V21; p++ {
		if values[0] == profiles[p].version && !differ(values) {
			return p, nil
		}
	}
	return 0, invalid(textVersion, nil)
}

func differ(values []string) bool {
	for _, v := range values[1:] {
		if v != values[0] {
			return true
		}
	}
	return false
}

// checkVersion decides the profile by header and document together
// (SX-VER-01, S2-VER-04 to -07).
func checkVersion(p Profile, doc *cpix.Document) (Profile, error) {
	switch p {
	case 0:
		if doc.Version != "" {
			return 0, invalid(textVersion, nil)
		}
		return V10, nil
	case V10:
		return V10, nil
	}
	switch doc.Version {
	case "":
		return p, invalid(textMissingCPIXVersion, nil)
	case profiles[p].cpix:
		return p, nil
	default:
		return p, invalid(textCPIXVersion, nil)
	}
}

// AnswerHeader sets the SPEKE headers of an answer or error to a request
// with the given headers: who answers, and for v2 the version as it was
// received (S1-HTTP-10, S2-HTTP-11 to -13). It works for requests that were
// never parsed, since errors carry the headers too.
func AnswerHeader(answer, request http.Header, userAgent string) {
	version := request.Get(HeaderVersion)
	if version == "" || version == profiles[V10].version {
		answer[HeaderUserAgentV1] = []string{userAgent}
		return
	}
	answer[HeaderUserAgent] = []string{userAgent}
	if !strings.ContainsAny(version, "\r\n") {
		answer[HeaderVersion] = []string{version}
	}
}
