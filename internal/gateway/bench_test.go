package gateway_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"spekeasy/encryptor"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
	"spekeasy/speke"
)

// BenchmarkRelay measures what the gateway adds to a call: the same client
// asks a vendor directly and through the gateway, over loopback, in one run.
// The vendor answers from memory. Reported is the CPU time of the whole
// process per request, which does not mind a busy machine; added-us is the
// difference. The gateway's own HTTP server is in it, its authentication and
// audit log are not. blind-added-us is what a relay adds that looks at nothing:
// one more HTTP server and client. The rest is ours.
func BenchmarkRelay(b *testing.B) {
	for name, o := range map[string]encryptor.Options{
		"v2,2keys,2systems": twoKeys,
		"v2,8keys,3systems": {Service: encryptor.MediaPackageV2, Version: encryptor.V20, VideoPreset: "PRESET-VIDEO-5", AudioPreset: "PRESET-AUDIO-3"},
		"v1,1key,2systems":  {Service: encryptor.MediaConvert, Version: encryptor.V10},
	} {
		b.Run(name, func(b *testing.B) { benchmarkRelay(b, build(b, o), nil) })
	}
	b.Run("v2,2keys,2systems,repaired", func(b *testing.B) {
		benchmarkRelay(b, build(b, twoKeys), []vendorsim.Fault{{Kind: vendorsim.FaultNoRules, Probability: 1}})
	})
}

func benchmarkRelay(b *testing.B, r *encryptor.Request, faults []vendorsim.Fault) {
	bench := newBench(b)
	sim := startSim(b, vendorsim.Generic, vendorsim.Options{Faults: faults, Observe: func(vendorsim.Exchange) {}})
	up := sim.upstream(b)
	to, err := http.NewRequestWithContext(b.Context(), http.MethodPost, up.URL, bytes.NewReader(r.Body))
	if err != nil {
		b.Fatal(err)
	}
	to.Header = r.Header.Clone()
	if up.Auth.Basic != nil {
		to.SetBasicAuth(up.Auth.Basic.User, string(up.Auth.Basic.Password))
	}
	res, err := http.DefaultTransport.RoundTrip(to)
	if err != nil {
		b.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		b.Fatal(err, res.Status)
	}
	res.Body.Close()
	vendor := stub(b, func(w http.ResponseWriter, q *http.Request) {
		io.Copy(io.Discard, q.Body) //nolint:errcheck // a benchmark's own client
		for name, values := range res.Header {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body) //nolint:errcheck // a benchmark's own client
	})
	tn := bench.tenant(&upstream.Settings{Vendor: "generic", URL: vendor.URL})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			b.Error(err)
			return
		}
		req, err := speke.ParseRequest(q.Header, body, &tn.Policy)
		if err != nil {
			b.Error(err)
			return
		}
		a, err := bench.gate.Provide(q.Context(), tn, req)
		if err != nil {
			b.Error(err)
			return
		}
		w.Header()["Content-Type"] = res.Header["Content-Type"]
		w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
		w.Write(a.Body) //nolint:errcheck // a benchmark's own client
	}))
	defer front.Close()

	// blind relays without a look at what it relays.
	blind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		out, err := http.NewRequestWithContext(q.Context(), http.MethodPost, vendor.URL, q.Body)
		if err != nil {
			b.Error(err)
			return
		}
		out.Header, out.ContentLength = q.Header, q.ContentLength
		res, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			b.Error(err)
			return
		}
		defer res.Body.Close()
		w.Header()["Content-Type"] = res.Header["Content-Type"]
		w.Header()["Content-Length"] = res.Header["Content-Length"]
		io.Copy(w, res.Body) //nolint:errcheck // a benchmark's own client
	}))
	defer blind.Close()

	post := func(url string) {
		q, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(r.Body))
		if err != nil {
			b.Fatal(err)
		}
		q.Header = r.Header
		res, err := http.DefaultTransport.RoundTrip(q)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, res.Body) //nolint:errcheck // a benchmark
		res.Body.Close()
	}
	block := func(url string, n int) float64 {
		before := cpuTime(b)
		for range n {
			post(url)
		}
		return (cpuTime(b) - before).Seconds() * 1e6 / float64(n)
	}
	// The server has memory in reserve too, so that the collector does not run
	// after each hundred requests.
	defer runtime.KeepAlive(make([]byte, 10<<20))
	b.ReportAllocs()
	var directs, blinds, throughs []float64
	for left := b.N; left > 0; {
		n := min(left, 200)
		left -= n
		b.StopTimer()
		directs = append(directs, block(vendor.URL, n))
		blinds = append(blinds, block(blind.URL, n))
		b.StartTimer()
		throughs = append(throughs, block(front.URL, n))
	}
	direct, through := median(directs), median(throughs)
	b.ReportMetric(direct, "direct-us")
	b.ReportMetric(median(blinds)-direct, "blind-added-us")
	b.ReportMetric(through, "gateway-us")
	b.ReportMetric(through-direct, "added-us")
}

// median keeps what else the machine does out of the figures.
func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
