package speke_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"spekeasy/speke"
)

// repeat joins what f makes of 0 to n-1.
func repeat(n int, f func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(f(i))
	}
	return b.String()
}

// TestWorkIsLinear holds that no document makes us work more than in
// proportion to its size (CPIX-RD-06): four times the document may take four
// times as long, give or take, and not sixteen.
func TestWorkIsLinear(t *testing.T) {
	key := func(i int) string { return `<c:ContentKey kid="` + kid(i) + `" commonEncryptionScheme="cbcs"/>` }
	system := func(i int) string {
		return `<c:DRMSystem kid="` + kid(i) + `" systemId="` + widevineID + `"><c:PSSH/></c:DRMSystem>`
	}
	rule := func(i int) string {
		return fmt.Sprintf(`<c:ContentKeyUsageRule kid="%s" intendedTrackType="T%d"><c:VideoFilter/></c:ContentKeyUsageRule>`, kid(i), i)
	}
	document := func(root, keys, systems, periods, rules, rest string) string {
		return `<c:CPIX contentId="movie" version="2.3" xmlns:c="urn:dashif:org:cpix"` + root + `><c:ContentKeyList>` + keys +
			`</c:ContentKeyList><c:DRMSystemList>` + systems + `</c:DRMSystemList>` + periods +
			`<c:ContentKeyUsageRuleList>` + rules + `</c:ContentKeyUsageRuleList>` + rest + `</c:CPIX>`
	}
	for _, c := range []struct {
		name     string
		n        int
		override bool
		make     func(n int) string
	}{
		{"many keys", 2000, false, func(n int) string {
			return document("", repeat(n, key), repeat(n, system), "", repeat(n, rule), "")
		}},
		{"many keys under a KID override", 2000, true, func(n int) string {
			return document("", repeat(n, key), repeat(n, system), "", repeat(n, rule), "")
		}},
		{"many systems of one key", 6000, false, func(n int) string {
			return document("", key(0), repeat(n, func(int) string { return system(0) }), "", rule(0), "")
		}},
		{"many periods of one rule", 12000, false, func(n int) string {
			return document("", key(0), system(0),
				`<c:ContentKeyPeriodList>`+repeat(n, func(i int) string { return fmt.Sprintf(`<c:ContentKeyPeriod id="p%06d"/>`, i) })+`</c:ContentKeyPeriodList>`,
				`<c:ContentKeyUsageRule kid="`+kid(0)+`" intendedTrackType="V"><c:VideoFilter/>`+
					repeat(n, func(i int) string { return fmt.Sprintf(`<c:KeyPeriodFilter periodId="p%06d"/>`, i) })+`</c:ContentKeyUsageRule>`, "")
		}},
		{"many prefixes that we could use", 24000, false, func(n int) string {
			return document("", key(0), system(0), "", rule(0), `<a xmlns:pskc="u"/>`+repeat(n, func(i int) string { return fmt.Sprintf(`<a xmlns:pskc%d="u"/>`, i+1) }))
		}},
		{"many signatures beside leftovers of v1", 40000, false, func(n int) string {
			return document(` xmlns:s="http://www.w3.org/2000/09/xmldsig#" xmlns:v="urn:aws:amazon:com:speke"`, key(0), system(0), "", rule(0),
				strings.Repeat(`<s:Signature/>`, n)+strings.Repeat(`<a/>`, n))
		}},
		{"many comments in a placeholder", 60000, false, func(n int) string {
			return document("", key(0), strings.Replace(system(0), `<c:PSSH/>`, `<c:PSSH>`+strings.Repeat(`<!--x-->`, n)+`</c:PSSH>`, 1), "", rule(0), "")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			small, large := c.make(c.n/4), c.make(c.n)
			var ratios []float64
			for range 8 { // other work on the machine must not fail the test
				ratio := float64(spent(t, large, c.override)) / float64(spent(t, small, c.override))
				if ratio < 8 {
					return
				}
				ratios = append(ratios, ratio)
			}
			t.Errorf("four times the document takes %.1f times as long", ratios)
		})
	}
}

// spent is the time to parse a request and to answer it, the best of three.
func spent(t *testing.T, body string, override bool) time.Duration {
	t.Helper()
	best := time.Hour
	for range 3 {
		start := time.Now()
		r, err := speke.ParseRequest(header("2.0"), []byte(body), policy(t))
		if err != nil {
			t.Fatal(err)
		}
		g := grants(r)
		for i := range g {
			if override {
				g[i].KID[0] ^= 0xff
			}
		}
		if _, _, err := answer(r, g, nil); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	return best
}
