package h1

import (
	"bufio"
	"bytes"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// FuzzParse holds what is taken for a plain request against net/http, which
// has to take it, too, and to understand the same.
func FuzzParse(f *testing.F) {
	for _, head := range []string{
		"POST /speke/v2.0/copyProtection?a=b HTTP/1.1\r\nHost: a.example.com:80\r\nContent-Length: 7\r\nx-speke-version: 2.0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 0\r\nConnection: keep-alive\r\nX: \t a b\t\r\nx: c\r\n\r\n",
		"POST //a/%41%2f;b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\nContent-Length: 1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nKeep-Alive: 5\r\nTE: trailers\r\nContent-Length: 1\r\n\r\n",
		"POST / HTTP/1.1\r\nX: a\nHost: a\r\nContent-Length: 1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\n b: c\r\nContent-Length: 1\r\n\r\n",
	} {
		f.Add([]byte(head))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		end := bytes.Index(head, crlf2)
		if end < 0 {
			return
		}
		head = head[:end+len(crlf2)]
		c := &conn{listener: &Listener{maxBody: 1 << 20}, template: template("")}
		x, ok := c.parse(head)
		if !ok {
			return
		}
		got := x.request
		message := append(bytes.Clone(head), make([]byte, got.ContentLength)...)
		want, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(message)))
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", head, err)
		}
		if want.Method != got.Method || want.RequestURI != got.RequestURI || want.Host != got.Host || want.ContentLength != got.ContentLength ||
			want.Proto != got.Proto || want.ProtoMajor != got.ProtoMajor || want.ProtoMinor != got.ProtoMinor ||
			want.Close != got.Close || len(want.TransferEncoding) > 0 || len(want.Trailer) > 0 ||
			!reflect.DeepEqual(want.URL, got.URL) || !reflect.DeepEqual(want.Header, got.Header) {
			t.Errorf("%q\ngot  %+v\nwant %+v", head, got, want)
		}
	})
}

// TestPlain is that requests of encryptors and their like are taken: the fuzz
// test would not notice a parser that takes nothing.
func TestPlain(t *testing.T) {
	for _, head := range []string{
		"POST /speke/v1.0/copyProtection HTTP/1.1\r\nHost: keys.example.com\r\nContent-Type: application/xml\r\nX-Speke-User-Agent: MediaConvert\r\n" +
			"Authorization: Basic ZGV2OmRldg==\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\nUser-Agent: Apache-HttpClient/4.5\r\nAccept-Encoding: gzip,deflate\r\n\r\n",
		"POST /cpix/getKey?enc-token=abc%3D HTTP/1.1\r\nhost: 127.0.0.1:8080\r\naccept: */*\r\ncontent-length: 5\r\n\r\n",
	} {
		c := &conn{listener: &Listener{maxBody: 5}, template: template("")}
		x, ok := c.parse([]byte(head))
		if !ok || x.request.ContentLength != 5 || !strings.HasPrefix(head, "POST "+x.request.URL.RequestURI()+" ") {
			t.Errorf("%q: %v", head, ok)
		}
		if _, ok := c.parse([]byte(strings.Replace(strings.ToLower(head), "length: 5", "length: 6", 1))); ok {
			t.Errorf("%q: a body that is too long", head)
		}
	}
}
