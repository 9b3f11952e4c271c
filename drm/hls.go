package drm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"spekeasy/contentkey"
)

// The values of METHOD (RFC 8216 section 4.3.2.4 and its successor).
const (
	methodAES128    = "AES-128"
	methodSampleAES = "SAMPLE-AES"
	methodSampleCTR = "SAMPLE-AES-CTR"
	methodSampleOld = "SAMPLE-AES-CENC" // an earlier name of SAMPLE-AES-CTR
)

// sampleMethod returns METHOD for a DRM system by scheme (S2-HLS-09); forCenc
// replaces the default of cenc.
func sampleMethod(scheme contentkey.Scheme, forCenc string) string {
	switch {
	case scheme != contentkey.Cenc:
		return methodSampleAES
	case forCenc != "":
		return forCenc
	default:
		return methodSampleCTR
	}
}

func checkCencMethod(s string) error {
	switch s {
	case "", methodSampleAES, methodSampleCTR, methodSampleOld:
		return nil
	}
	return fmt.Errorf("cenc_method: %q is none of %s, %s, %s", s, methodSampleCTR, methodSampleAES, methodSampleOld)
}

const (
	keyFormatVersions    = "1"
	keyFormatVersionsEnd = `",KEYFORMATVERSIONS="` + keyFormatVersions + `"`
)

// The attributes of 16 bytes that may stand behind the URI. Players want the
// value with 0x and without quotes (D-821).
const (
	attrKeyID = "KEYID"
	attrIV    = "IV"
)

func appendHexAttr(b []byte, name string, v [16]byte) []byte {
	b = append(b, ',')
	b = append(b, name...)
	b = append(b, "=0x"...)
	return hex.AppendEncode(b, v[:])
}

func hexAttrLen(name string) int { return len(",=0x") + len(name) + 32 }

// uriSystem is what the systems have in common whose clients get nothing but
// the URI of a key.
type uriSystem struct {
	method   string
	uri      []byte // without quotes, line ends and other control characters
	attr     string // attrKeyID, attrIV or ""
	attrData [16]byte
	format   string // KEYFORMAT
	room     *Room
}

// signal makes the whole attribute list, which SPEKE v2 wants, and its parts,
// which v1 wants. The order METHOD, URI, KEYID or IV, KEYFORMAT,
// KEYFORMATVERSIONS is that of AWS's documents (D-826).
func (u *uriSystem) signal(want Fields) Signaling {
	const tag = `METHOD=,URI="",KEYFORMAT="` + keyFormatVersionsEnd
	n := 0
	if want&HLS != 0 {
		n += len(tag) + len(u.method) + len(u.uri) + len(u.format)
		if u.attr != "" {
			n += hexAttrLen(u.attr)
		}
	}
	if want&KeyURI != 0 {
		n += len(u.uri)
	}
	if want&KeyFormat != 0 {
		n += len(u.format)
	}
	if want&KeyFormatVersions != 0 {
		n += len(keyFormatVersions)
	}

	var s Signaling
	b := u.room.take(n)
	if want&HLS != 0 {
		b = append(b, "METHOD="...)
		b = append(b, u.method...)
		b = append(b, `,URI="`...)
		b = append(b, u.uri...)
		b = append(b, '"')
		if u.attr != "" {
			b = appendHexAttr(b, u.attr, u.attrData)
		}
		b = append(b, `,KEYFORMAT="`...)
		b = append(b, u.format...)
		b = append(b, keyFormatVersionsEnd...)
		s.HLS = tail(b, 0)
	}
	if want&KeyURI != 0 {
		at := len(b)
		b = append(b, u.uri...)
		s.KeyURI = tail(b, at)
	}
	if want&KeyFormat != 0 {
		at := len(b)
		b = append(b, u.format...)
		s.KeyFormat = tail(b, at)
	}
	if want&KeyFormatVersions != 0 {
		at := len(b)
		b = append(b, keyFormatVersions...)
		s.KeyFormatVersions = tail(b, at)
	}
	return s
}

var (
	errURLForm   = errors.New("not an absolute http or https URL without credentials")
	errURLChars  = errors.New("a URL has only printable ASCII without blanks, quotes and backslashes")
	errURLSecure = errors.New("must be https; http is for loopback addresses only")
)

// checkURL accepts an absolute http or https URL that can stand in a quoted
// HLS attribute and, after escaping, in XML.
func checkURL(s string) (*url.URL, error) {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return nil, errURLChars
		}
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errURLForm
	}
	return u, nil
}

// checkSecureURL is [checkURL] for an address that keys are fetched from.
// Plain http serves for loopback, where browsers too call it secure.
func checkSecureURL(s string) error {
	u, err := checkURL(s)
	if err == nil && u.Scheme != "https" && !isLoopback(u.Hostname()) {
		return errURLSecure
	}
	return err
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
