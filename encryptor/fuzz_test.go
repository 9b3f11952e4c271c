package encryptor

import (
	"slices"
	"testing"

	"spekeasy/contentkey"
)

func unique(a *Answer) bool {
	seen := make(map[contentkey.KID]bool)
	for i := range a.Keys {
		if seen[a.Keys[i].Requested] {
			return false
		}
		seen[a.Keys[i].Requested] = true
	}
	return true
}

// FuzzReadAnswer reads any document as the answer to any request: nothing
// panics, the checks do not change what they look at, and an answer whose key
// IDs are different ones agrees with itself.
func FuzzReadAnswer(f *testing.F) {
	for _, name := range workedAnswers {
		f.Add([]byte(workedRequest(f, name).Body), string(version(name)), readFile(f, "worked/"+name+".answer.xml"))
	}
	for _, name := range []string{"v2-dash", "v2-cmaf"} {
		for _, m := range mutations[name] {
			f.Add([]byte(workedRequest(f, name).Body), string(version(name)), []byte(m.change(string(readFile(f, "worked/"+name+".answer.xml")))))
		}
	}
	f.Fuzz(func(t *testing.T, request []byte, v string, answer []byte) {
		r, err := ReadRequest(answerHeader(Version(v)), request)
		if err != nil {
			return
		}
		a, err := ReadAnswer(r, answerHeader(r.Version), answer)
		if err != nil {
			return
		}
		got := a.Check()
		if again := a.Check(); !slices.Equal(got, again) {
			t.Fatalf("the second check differs:\n%v\n%v", got, again)
		}
		CheckRotation(a, a)
		repeat := CheckRepeat(a, a)
		if slices.ContainsFunc(repeat, func(v Violation) bool { return v.Rule != "SX-SEQ-16" && v.Rule != "SX-KID-06" }) ||
			len(repeat) > 0 && unique(a) {
			t.Fatalf("an answer differs from itself: %v", repeat)
		}
	})
}

// FuzzBoxes reads any bytes as a pssh box, Widevine data, a PlayReady Object
// and an HLS tag.
func FuzzBoxes(f *testing.F) {
	f.Add([]byte("\x12\x10\x11\x22\x33\x44\x55\x66\x77\x88\x11\x22\x33\x44\x55\x66\x77\x88\x48\xe3\xdc\x95\x9b\x06"))
	f.Add([]byte(`#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x",KEYFORMAT="a",KEYFORMATVERSIONS="1"`))
	f.Add([]byte("\x00\x00\x00\x20pssh\x00\x00\x00\x00\x10\x77\xef\xec\xc0\xb2\x4d\x02\xac\xe3\x3c\x1e\x52\xe2\xfb\x4b\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if box, err := parseBox(b); err == nil && len(box.data)+16*len(box.kids)+32 > len(b) {
			t.Fatal("more data than bytes")
		}
		if w, err := parseWidevine(b); err == nil && 18*len(w.kids) > len(b) {
			t.Fatal("more key IDs than bytes")
		}
		if _, err := parseObject(b); err == nil && len(b) < 10 {
			t.Fatal("an object without a header")
		}
		if tag, err := parseTag(string(b)); err == nil && len(tag.attrs) == 0 {
			t.Fatal("a tag without attributes")
		}
	})
}
