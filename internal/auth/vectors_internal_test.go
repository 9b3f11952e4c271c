package auth

import "testing"

// TestDigestVectors holds the examples of RFC 7616, 3.9.1.
func TestDigestVectors(t *testing.T) {
	for i, want := range []string{"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1", "8ca523f5e9506fed4657c9700eebdbec"} {
		a := digestAlgorithms()[i]
		p := digestParams{
			nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", uri: "/dir/index.html", qop: "auth", nc: "00000001",
			cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", hash: a.hash,
		}
		ha1 := a.hash("Mufasa", "http-auth@example.org", "Circle of Life")
		if got := p.expected(ha1, p.ha2("GET", nil)); got != want {
			t.Errorf("%s: got %s, want %s", a.name, got, want)
		}
	}
}
