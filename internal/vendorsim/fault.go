package vendorsim

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"spekeasy/cpix"
	"spekeasy/drm"
)

// Fault is something that goes wrong with a key request now and then.
type Fault struct {
	Kind        string  // one of the constants, or an HTTP status from "400" to "599"
	Probability float64 // of striking a request, from 0 to 1
}

// The kinds of faults beside HTTP statuses.
const (
	FaultSlow         = "slow"          // the right answer, late
	FaultHang         = "hang"          // no answer until the client gives up
	FaultReset        = "reset"         // the connection breaks before the answer
	FaultHalf         = "half"          // the connection breaks amid the body
	FaultCut          = "cut"           // half the body, and a Content-Length to match
	FaultEmpty        = "empty"         // status 200 without a body
	FaultHTML         = "html"          // status 200 with a page of a proxy
	FaultJSON         = "json200"       // status 200 with an error in JSON
	FaultDenied       = "401once"       // 401; the same request passes the next time
	FaultExpire       = "expire"        // all OAuth tokens end, the one of this request too
	FaultWrongKID     = "wrong-kid"     // a content key comes under a key ID that nobody else in the answer has
	FaultWrongContent = "wrong-content" // the content ID is another one
	FaultNoKey        = "no-key"        // a content key comes without its value
	FaultContract     = "contract"      // a usage rule comes back for another track
)

// Oddities of right answers, which a gateway may mend.
const (
	FaultNoRules    = "no-rules"     // usage rules are not repeated
	FaultNoPeriods  = "no-periods"   // key periods are not repeated
	FaultUpperCase  = "upper-case"   // key IDs and system IDs in upper case
	FaultNoPlaylist = "no-playlist"  // HLSSignalingData for media playlists does not say so
	FaultV1         = "v1-namespace" // the namespace of SPEKE 1.0 is declared
	FaultBareData   = "bare-pssh"    // PSSH holds the data without its box
)

var faultKinds = []string{
	FaultSlow, FaultHang, FaultReset, FaultHalf, FaultCut, FaultEmpty, FaultHTML, FaultJSON,
	FaultDenied, FaultExpire, FaultWrongKID, FaultWrongContent, FaultNoKey, FaultContract,
	FaultNoRules, FaultNoPeriods, FaultUpperCase, FaultNoPlaylist, FaultV1, FaultBareData,
}

// ParseFault reads KIND or KIND:PROBABILITY, such as "slow:0.2" and "503".
func ParseFault(s string) (Fault, error) {
	kind, text, some := strings.Cut(s, ":")
	f := Fault{Kind: kind, Probability: 1}
	if some {
		var err error
		if f.Probability, err = strconv.ParseFloat(text, 64); err != nil || !(f.Probability >= 0 && f.Probability <= 1) {
			return Fault{}, fmt.Errorf("fault %q: the probability is a number from 0 to 1", s)
		}
	}
	if status(kind) == 0 && !slices.Contains(faultKinds, kind) {
		return Fault{}, fmt.Errorf("fault %q is neither an HTTP status from 400 to 599 nor one of %s", s, strings.Join(faultKinds, ", "))
	}
	return f, nil
}

// status reads a kind that is an HTTP status, 0 for others.
func status(kind string) int {
	n, err := strconv.Atoi(kind)
	if err != nil || n < 400 || n > 599 {
		return 0
	}
	return n
}

// strike decides which fault befalls a request, "" for none.
func (s *Server) strike(r *http.Request, body []byte) string {
	if r.Method != http.MethodPost || r.URL.Path == insysToken {
		return ""
	}
	kind := ""
	for _, f := range s.o.Faults {
		if s.o.Chance() < f.Probability {
			kind = f.Kind
			break
		}
	}
	if kind != FaultDenied {
		return kind
	}
	id := sha256.Sum256(body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.denied[id] {
		delete(s.denied, id)
		return ""
	}
	s.denied[id] = true
	return kind
}

// expirer is a vendor whose tokens can end.
type expirer interface{ expire() }

// before lets a fault act in place of the vendor's own handler, or ahead of
// it; it reports whether the handler is still to run.
func before(s *Server, kind string, a *answer, r *http.Request) (proceed bool) {
	switch kind {
	case FaultSlow:
		t := time.NewTimer(s.o.Delay)
		defer t.Stop()
		select {
		case <-t.C:
			return true
		case <-r.Context().Done():
			a.abort = true
		}
	case FaultHang:
		<-r.Context().Done()
		a.abort = true
	case FaultReset:
		a.abort = true
	case FaultHTML:
		a.say("text/html", "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1></body></html>\n")
	case FaultJSON:
		a.say("application/json", `{"errorCode":"9999","message":"internal error"}`)
	case FaultDenied:
		s.vendor.refuse(a, http.StatusUnauthorized, "unauthorized")
	case FaultExpire:
		if e, ok := s.vendor.(expirer); ok {
			e.expire()
		}
		return true
	default:
		if n := status(kind); n != 0 {
			s.vendor.refuse(a, n, "simulated failure")
			return false
		}
		return true
	}
	return false
}

var (
	trackTypes = regexp.MustCompile(`intendedTrackType="[^"]*"`)
	rules      = regexp.MustCompile(`(?s)<(\w+:)?ContentKeyUsageRuleList.*</(\w+:)?ContentKeyUsageRuleList>`)
	periods    = regexp.MustCompile(`(?s)<(\w+:)?ContentKeyPeriodList.*</(\w+:)?ContentKeyPeriodList>`)
	ids        = regexp.MustCompile(`(kid|systemId)="[^"]*"`)
	boxes      = regexp.MustCompile(`(<(?:\w+:)?PSSH>)([^<]*)(</)`)
	values     = regexp.MustCompile(`<[^<>/]*(PlainValue|CipherValue)>[^<]*</[^<>]*(PlainValue|CipherValue)>`)
)

// after lets a fault act on a right answer.
func after(kind string, a *answer) {
	if kind == "" || a.status != http.StatusOK {
		return
	}
	switch kind {
	case FaultHalf:
		a.half = true
	case FaultCut:
		a.body = a.body[:len(a.body)/2]
	case FaultEmpty:
		a.body = nil
	case FaultNoRules:
		a.body = rules.ReplaceAll(a.body, nil)
	case FaultNoPeriods:
		a.body = periods.ReplaceAll(a.body, nil)
	case FaultUpperCase:
		a.body = ids.ReplaceAllFunc(a.body, upperValue)
	case FaultNoPlaylist:
		a.body = bytes.ReplaceAll(a.body, []byte(` playlist="media"`), nil)
	case FaultV1:
		if body, err := declareV1(a.body); err == nil {
			a.body = body
		}
	case FaultBareData:
		a.body = boxes.ReplaceAllFunc(a.body, bareData)
	case FaultContract:
		a.body = replaceFirst(a.body, trackTypes, `intendedTrackType="OTHER"`)
	case FaultNoKey:
		// Encrypted content keys come behind the keys of the DeliveryData.
		at := max(bytes.Index(a.body, []byte("ContentKeyList")), 0)
		a.body = append(a.body[:at:at], replaceFirst(a.body[at:], values, "")...)
	case FaultWrongKID, FaultWrongContent:
		d, err := cpix.Parse(a.body)
		if err != nil {
			return
		}
		old, other := d.ContentKeys[0].KID, "00000000-dead-4bad-8bad-000000000000"
		if kind == FaultWrongContent {
			old = d.ContentID + d.ID // PallyCon's and v1's is id
			other = old + "-other"
		}
		a.body = bytes.Replace(a.body, []byte(`"`+old+`"`), []byte(`"`+other+`"`), 1)
	}
}

// upperValue puts the value of an attribute in upper case.
func upperValue(attr []byte) []byte {
	name, value, _ := bytes.Cut(attr, []byte("="))
	return slices.Concat(name, []byte("="), bytes.ToUpper(value))
}

// bareData takes the box away around the data of a PSSH element.
func bareData(element []byte) []byte {
	m := boxes.FindSubmatch(element)
	raw, err := base64.StdEncoding.DecodeString(string(m[2]))
	if err != nil {
		return element
	}
	box, err := drm.ParseBox(raw)
	if err != nil {
		return element
	}
	return slices.Concat(m[1], []byte(base64.StdEncoding.EncodeToString(box.Data)), m[3])
}

func replaceFirst(b []byte, re *regexp.Regexp, with string) []byte {
	at := re.FindIndex(b)
	if at == nil {
		return b
	}
	return slices.Concat(b[:at[0]], []byte(with), b[at[1]:])
}

// reset breaks the connection so that the client sees it broken, not closed.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 and test recorders: the server's own way to break off
	}
	if c, ok := conn.(*net.TCPConn); ok {
		c.SetLinger(0) //nolint:errcheck // then it is closed the ordinary way
	}
	conn.Close()
}

// FaultKinds lists the kinds that are not HTTP statuses.
func FaultKinds() []string { return slices.Clone(faultKinds) }
