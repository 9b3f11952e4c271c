package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keyprovider"
	"spekeasy/speke"
)

// BenchmarkAnswer measures the whole handler without a network: from the
// parsed HTTP request to the bytes of the answer, over a real database. Beside
// the usual figures it reports the CPU time of the process per request, which
// has the garbage collector's share and does not mind a busy machine.
func BenchmarkAnswer(b *testing.B) {
	sealed := deliveryData(b)
	for _, c := range []struct {
		name string
		benchCase
	}{
		{"v1/1key,2systems", benchCase{body: v1Request()}},
		{"v2/1key,3systems", benchCase{v2: true, body: v2Request(1, "")}},
		{"v2/2keys,3systems", benchCase{v2: true, body: v2Request(2, "")}},
		{"v2/10keys,3systems", benchCase{v2: true, body: v2Request(10, "")}},
		{"v2/20keys,3systems", benchCase{v2: true, body: v2Request(20, "")}},
		{"v2/2keys,3systems,encrypted", benchCase{v2: true, body: v2Request(2, sealed), seal: time.Minute}},
		{"v2/2keys,3systems,encrypted,fresh", benchCase{v2: true, body: v2Request(2, sealed)}},
		{"v2/2keys,3systems,10%new", benchCase{v2: true, body: v2Request(2, ""), fresh: 10}},
	} {
		b.Run(c.name, c.run)
	}
}

type benchCase struct {
	v2    bool
	body  []byte
	seal  time.Duration // how long a document key is used
	fresh int           // every n-th request has key IDs of its own; 0 for none
}

// benchWorkers is how many requests are under way when keys are created,
// since those share commits.
const benchWorkers = 8

func (c *benchCase) run(b *testing.B) {
	s := newServer(b, exampleTenant(), nil, serverOptions{random: rand.Reader, now: time.Now, provider: keyprovider.Options{SealFor: c.seal}})
	var requests atomic.Int64
	var out atomic.Int64
	work := func(next func() bool) {
		e := newExchange(b.Context(), c)
		for next() {
			if n := requests.Add(1); c.fresh > 0 && n%int64(c.fresh) == 0 {
				e.newKeyIDs(n)
			}
			e.do(s)
			if e.status != http.StatusOK {
				b.Errorf("status %d: %s", e.status, e.refusal)
				return
			}
		}
		out.Store(int64(e.written))
	}
	first := true
	work(func() bool { defer func() { first = false }(); return first }) // creates the keys

	b.ReportAllocs()
	before := cpuTime(b)
	if c.fresh > 0 {
		b.SetParallelism(benchWorkers)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) { work(pb.Next) })
	} else {
		work(b.Loop)
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(out.Load()), "bytes-out")
}

// cpuTime is what the process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// exchange is one request that is sent over and over, and a response writer
// that only counts.
type exchange struct {
	request http.Request
	body    []byte
	reader  bytes.Reader

	header  http.Header
	status  int
	written int
	refusal []byte
}

func newExchange(ctx context.Context, c *benchCase) *exchange {
	e := &exchange{body: bytes.Clone(c.body), header: make(http.Header)}
	h := http.Header{
		"Content-Type":  {speke.ContentType},
		"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("test:test"))},
	}
	if c.v2 {
		h.Set(speke.HeaderVersion, "2.0")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/speke/copyProtection", http.NoBody)
	if err != nil {
		panic(err) // the URL is good
	}
	r.Header, r.ContentLength, r.Body = h, int64(len(e.body)), io.NopCloser(&e.reader)
	r.RemoteAddr = "192.0.2.1:40000"
	e.request = *r
	return e
}

func (e *exchange) do(h http.Handler) {
	e.reader.Reset(e.body)
	clear(e.header)
	e.status, e.written = http.StatusOK, 0
	h.ServeHTTP(e, &e.request)
}

func (e *exchange) Header() http.Header    { return e.header }
func (e *exchange) WriteHeader(status int) { e.status = status }

func (e *exchange) Write(b []byte) (int, error) {
	e.written += len(b)
	if e.status != http.StatusOK {
		e.refusal = bytes.Clone(b)
	}
	return len(b), nil
}

// newKeyIDs makes the request ask for keys that do not exist yet: all its key
// IDs begin alike.
func (e *exchange) newKeyIDs(n int64) {
	stamp := fmt.Appendf(nil, "%08x", n)
	for rest := e.body; ; {
		at := bytes.Index(rest, []byte(` kid="`))
		if at < 0 {
			return
		}
		rest = rest[at+len(` kid="`):]
		copy(rest, stamp)
	}
}

func v1Request() []byte {
	const kid = "689994dd-00d1-3367-ab5a-0285dc8ade94"
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>
<cpix:CPIX id="bench-1" xmlns:cpix="urn:dashif:org:cpix" xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc" xmlns:speke="urn:aws:amazon:com:speke">
  <cpix:ContentKeyList>
    <cpix:ContentKey kid="` + kid + `"></cpix:ContentKey>
  </cpix:ContentKeyList>
  <cpix:DRMSystemList>
    <cpix:DRMSystem kid="` + kid + `" systemId="edef8ba9-79d6-4ace-a3c8-27dcd51d21ed">
      <cpix:PSSH></cpix:PSSH>
    </cpix:DRMSystem>
    <cpix:DRMSystem kid="` + kid + `" systemId="9a04f079-9840-4286-ab92-e65be0885f95">
      <speke:ProtectionHeader></speke:ProtectionHeader>
      <cpix:PSSH></cpix:PSSH>
    </cpix:DRMSystem>
  </cpix:DRMSystemList>
</cpix:CPIX>
`)
}

// v2Request is what a packager sends for CMAF in several DRM systems, with
// a track type for each content key and the given DeliveryDataList.
func v2Request(keys int, delivery string) []byte {
	kids := make([]contentkey.KID, keys)
	for i := range kids {
		kids[i] = contentkey.KID{0x04, 0xbd, 0x27, 0xf8, 0xb5, 0x9d, 0x31, 0xfa, 0x88, 0x67, 15: byte(i)}
	}
	const period = "d9fceccc-aac7-3bde-8314-c228162e0871"
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
		`<cpix:CPIX contentId="bench-2" version="2.3" xmlns:cpix="urn:dashif:org:cpix">` + "\n" + delivery + "  <cpix:ContentKeyList>\n")
	for _, kid := range kids {
		fmt.Fprintf(&b, `    <cpix:ContentKey commonEncryptionScheme="cbcs" explicitIV="7DthwlkNNc6jK4vSCcpoMQ==" kid="%s"/>`+"\n", kid)
	}
	b.WriteString("  </cpix:ContentKeyList>\n  <cpix:DRMSystemList>\n")
	for _, id := range []string{"94ce86fb-07ff-4f43-adb8-93d2fa968ca2", "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed", "9a04f079-9840-4286-ab92-e65be0885f95"} {
		for _, kid := range kids {
			fmt.Fprintf(&b, `    <cpix:DRMSystem kid="%s" systemId="%s">`+"\n", kid, id)
			if !strings.HasPrefix(id, "94ce86fb") { // FairPlay is for HLS alone
				b.WriteString("      <cpix:PSSH/>\n      <cpix:ContentProtectionData/>\n")
			}
			b.WriteString(`      <cpix:HLSSignalingData playlist="media"/>` + "\n" + `      <cpix:HLSSignalingData playlist="master"/>` + "\n    </cpix:DRMSystem>\n")
		}
	}
	fmt.Fprintf(&b, "  </cpix:DRMSystemList>\n  <cpix:ContentKeyPeriodList>\n"+`    <cpix:ContentKeyPeriod id="%s" index="0"/>`+
		"\n  </cpix:ContentKeyPeriodList>\n  <cpix:ContentKeyUsageRuleList>\n", period)
	for i, kid := range kids {
		filter := "VideoFilter"
		if i%2 == 1 {
			filter = "AudioFilter"
		}
		fmt.Fprintf(&b, `    <cpix:ContentKeyUsageRule intendedTrackType="TRACK%d" kid="%s">`+"\n"+
			`      <cpix:KeyPeriodFilter periodId="%s"/>`+"\n      <cpix:%s/>\n    </cpix:ContentKeyUsageRule>\n", i, kid, period, filter)
	}
	b.WriteString("  </cpix:ContentKeyUsageRuleList>\n</cpix:CPIX>\n")
	return b.Bytes()
}

// deliveryData is a DeliveryDataList for the recipient in testdata.
func deliveryData(b *testing.B) string {
	b.Helper()
	text, err := os.ReadFile("testdata/recipient.pem")
	if err != nil {
		b.Fatal(err)
	}
	cert, _ := pem.Decode(text)
	if cert == nil {
		b.Fatal("no certificate")
	}
	return `  <cpix:DeliveryDataList>
    <cpix:DeliveryData>
      <cpix:DeliveryKey>
        <ds:X509Data xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Certificate>` + base64.StdEncoding.EncodeToString(cert.Bytes) + `</ds:X509Certificate></ds:X509Data>
      </cpix:DeliveryKey>
    </cpix:DeliveryData>
  </cpix:DeliveryDataList>
`
}
