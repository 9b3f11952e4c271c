package telemetry

import (
	"encoding/hex"
	"net/http"
	"strings"
)

// Names of the headers that carry a trace, in the form of http.Header's keys.
const (
	headerTraceparent = "Traceparent"
	headerXRay        = "X-Amzn-Trace-Id"
)

// origin is where a request says that it comes from.
type origin struct {
	trace     TraceID
	span      SpanID // zero if only the trace is named
	sampled   bool
	undecided bool // the sender leaves sampling to us
}

// parent reads the headers. W3C's goes before X-Ray's: load balancers of AWS
// add theirs to whatever the caller sent.
func parent(h http.Header) (origin, bool) {
	if v := h[headerTraceparent]; len(v) == 1 {
		if p, ok := parseTraceparent(v[0]); ok {
			return p, true
		}
	}
	if v := h[headerXRay]; len(v) == 1 {
		return parseXRay(v[0])
	}
	return origin{}, false
}

// parseTraceparent reads 00-<trace>-<span>-<flags> (W3C Trace Context, 3.2).
// Later versions may have more after a further dash.
func parseTraceparent(s string) (p origin, ok bool) {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" ||
		len(s) > 55 && (s[:2] == "00" || s[55] != '-') || s != strings.ToLower(s) {
		return origin{}, false
	}
	var version, flags [1]byte
	if !decode(version[:], s[:2]) || !decode(p.trace[:], s[3:35]) || !decode(p.span[:], s[36:52]) || !decode(flags[:], s[53:55]) {
		return origin{}, false
	}
	p.sampled = flags[0]&1 != 0
	return p, p.trace != TraceID{} && p.span != SpanID{}
}

// parseXRay reads Root=1-<8 digits>-<24 digits>;Parent=<16 digits>;Sampled=1.
// The two parts of the root are an OpenTelemetry trace ID. Parent and Sampled
// may be missing, and load balancers add members of their own.
func parseXRay(s string) (p origin, ok bool) {
	if len(s) > 512 {
		return origin{}, false
	}
	p.undecided = true
	for member := range strings.SplitSeq(s, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(member), "=")
		switch key {
		case "Root":
			epoch, unique, _ := strings.Cut(strings.TrimPrefix(value, "1-"), "-")
			ok = len(value) == 35 && len(epoch) == 8 && decode(p.trace[:4], epoch) && decode(p.trace[4:], unique) && p.trace != TraceID{}
			if !ok {
				return origin{}, false
			}
		case "Parent":
			if !decode(p.span[:], value) {
				p.span = SpanID{}
			}
		case "Sampled":
			if value == "1" || value == "0" {
				p.sampled, p.undecided = value == "1", false
			}
		}
	}
	return p, ok
}

// decode fills dst with hexadecimal digits of exactly its length.
func decode(dst []byte, digits string) bool {
	if len(digits) != hex.EncodedLen(len(dst)) {
		return false
	}
	_, err := hex.Decode(dst, []byte(digits))
	return err == nil
}
