package gateway_test

import (
	"bytes"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"spekeasy/internal/gateway"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
)

// TestOddAnswers: what no vendor should answer is an error with a sentence, or
// repaired where nothing is lost; the encryptor never gets it.
func TestOddAnswers(t *testing.T) {
	key := regexp.MustCompile(`(<pskc:PlainValue>)[^<]*`)
	firstKID := build(t, twoKeys).Keys[0].KID.String()
	other := "99999999-9999-4999-8999-999999999999"
	for name, c := range map[string]struct {
		change func(body string) string
		header map[string]string
		status int
		kind   gateway.Kind // "" for an answer that is repaired
		want   string       // in the sentence, or a repair
	}{
		"a redirection":    {status: 302, header: map[string]string{"Location": "http://127.0.0.1:1/"}, kind: gateway.Refused, want: "redirection"},
		"201":              {status: 201, kind: gateway.Refused, want: "status 201"},
		"too long":         {change: func(s string) string { return s + strings.Repeat(" ", 5<<20) }, kind: gateway.NotCPIX, want: "more than a CPIX document"},
		"another document": {change: func(string) string { return `<a/>` }, kind: gateway.NotCPIX, want: "no CPIX document"},
		"a document type":  {change: func(s string) string { return `<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>` + s }, kind: gateway.NotCPIX, want: "no CPIX document"},
		"a short key":      {change: func(s string) string { return key.ReplaceAllString(s, "${1}"+base64Of(make([]byte, 15))) }, kind: gateway.Invalid, want: "not 16 bytes"},
		"a zero key":       {change: func(s string) string { return key.ReplaceAllString(s, "${1}"+base64Of(make([]byte, 16))) }, kind: gateway.Invalid, want: "all zeros"},
		"no keys":          {change: cut("cpix:ContentKeyList"), kind: gateway.Invalid, want: "without content keys"},
		"an extra key": {change: func(s string) string {
			return strings.Replace(s, "</cpix:ContentKeyList>", `<cpix:ContentKey kid="`+other+`"/></cpix:ContentKeyList>`, 1)
		}, kind: gateway.Invalid, want: "nobody asked for"},
		"a key twice": {change: func(s string) string {
			return strings.Replace(s, "</cpix:ContentKeyList>", `<cpix:ContentKey kid="`+firstKID+`"/></cpix:ContentKeyList>`, 1)
		}, kind: gateway.Invalid, want: "answered twice"},
		"another scheme":      {change: func(s string) string { return strings.ReplaceAll(s, `"cenc"`, `"cbcs"`) }, kind: gateway.Invalid, want: "common encryption scheme"},
		"another period":      {change: func(s string) string { return strings.ReplaceAll(s, `index="0"`, `index="1"`) }, kind: gateway.Invalid, want: "key periods"},
		"a box for others":    {change: swapBoxes, kind: gateway.Invalid, want: "signaling for another key ID"},
		"no base64":           {change: func(s string) string { return strings.Replace(s, "<cpix:PSSH>", "<cpix:PSSH>!", 1) }, kind: gateway.Invalid, want: "not base64"},
		"no scheme":           {change: func(s string) string { return strings.ReplaceAll(s, ` commonEncryptionScheme="cenc"`, "") }, want: "scheme"},
		"no version":          {change: func(s string) string { return strings.Replace(s, ` version="2.3"`, "", 1) }, want: "version"},
		"v1's content ID":     {change: func(s string) string { return strings.Replace(s, ` contentId="`, ` id="`, 1) }, want: "content-id"},
		"no signaling at all": {change: cut("cpix:DRMSystemList"), want: "complete-signaling"},
		"no master playlist": {change: func(s string) string {
			return regexp.MustCompile(`(?s)<cpix:HLSSignalingData playlist="master">.*?</cpix:HLSSignalingData>`).ReplaceAllString(s, "")
		}, want: "complete-signaling"},
		"a system more": {change: func(s string) string {
			return strings.Replace(s, "</cpix:DRMSystemList>", `<cpix:DRMSystem kid="`+firstKID+`" systemId="94ce86fb-07ff-4f43-adb8-93d2fa968ca2"/></cpix:DRMSystemList>`, 1)
		}, want: "drop-unrequested"},
		"systems in another order": {change: func(s string) string {
			all := regexp.MustCompile(`(?s)<cpix:DRMSystem .*?</cpix:DRMSystem>`).FindAllString(s, -1)
			return strings.Replace(strings.Replace(strings.Replace(s, all[0], "\x00", 1), all[1], all[0], 1), "\x00", all[1], 1)
		}, want: "order"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			s := startSim(t, vendorsim.Generic, vendorsim.Options{})
			front := stub(t, func(w http.ResponseWriter, r *http.Request) {
				res, body := forward(t, s, r)
				changed := string(body)
				if c.change != nil {
					if changed = c.change(changed); changed == string(body) {
						t.Errorf("nothing changed in\n%s", body)
					}
				}
				for name, values := range res.Header {
					w.Header()[name] = values
				}
				w.Header().Del("Content-Length")
				for name, value := range c.header {
					w.Header().Set(name, value)
				}
				if c.status != 0 {
					w.WriteHeader(c.status)
				}
				bytes.NewBufferString(changed).WriteTo(w) //nolint:errcheck // the gateway may leave
			})
			up := s.upstream(t, func(u *upstream.Settings) { u.URL = strings.Replace(u.URL, s.URL, front.URL, 1) })
			_, err := b.ask(b.tenant(up), build(t, twoKeys))
			if c.kind == "" {
				if err != nil || !strings.Contains(strings.Join(b.last().Calls[0].Fixes, " "), c.want) {
					t.Errorf("%v, repairs %v", err, b.last().Calls[0].Fixes)
				}
				return
			}
			var f *gateway.Fault
			if !errors.As(err, &f) || f.Kind != c.kind || !strings.Contains(f.Sentence, c.want) {
				t.Fatalf("%v", err)
			}
			if len(b.bound("movie-1")) != 0 {
				t.Error("recorded")
			}
			hides(t, b, s, err.Error(), b.last().Calls[0].Received)
		})
	}
}

// cut takes a list out of a document.
func cut(list string) func(string) string {
	return func(s string) string {
		return regexp.MustCompile(`(?s)<`+list+`>.*</`+list+`>`).ReplaceAllString(s, "")
	}
}

// swapBoxes gives two keys each other's boxes.
func swapBoxes(s string) string {
	all := regexp.MustCompile(`<cpix:PSSH>[^<]*</cpix:PSSH>`).FindAllString(s, -1)
	return strings.Replace(strings.Replace(strings.Replace(s, all[0], "\x00", 1), all[1], all[0], 1), "\x00", all[1], 1)
}
