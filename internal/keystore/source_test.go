package keystore_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

func mustKID(t *testing.T, s string) contentkey.KID {
	t.Helper()
	k, err := contentkey.ParseKID(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func seed() []byte {
	var b []byte
	for i := range byte(32) {
		b = append(b, i)
	}
	return b
}

// TestHKDF compares with values that were computed by another implementation
// of RFC 5869, from the seed 00 01 ... 1f.
func TestHKDF(t *testing.T) {
	source, err := keystore.NewHKDF(seed())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ tenant, kid, key, iv string }{
		{"acme", "00112233-4455-6677-8899-aabbccddeeff", "226d95eac7a0d45e5c434025e007a044", "bddc03d8d21060f05c25308b287dfe5e"},
		{"acme", "339c45b5-fb6d-4bd9-994c-eabd9d41c95b", "d88444c7055b84783f2274f28fbcb449", "b66d221212e0e3bee009517073332a01"},
		{"other", "00112233-4455-6677-8899-aabbccddeeff", "0b7c27a13d0f6211dfa3e23fe665d590", "d680fccf02a806520f3f9a93319fb19b"},
		{"other", "339c45b5-fb6d-4bd9-994c-eabd9d41c95b", "3ed372d62fbc62d338419dd349d2802d", "657240b71c69bd67b4d90d9297ece34f"},
	} {
		for range 2 {
			v, iv, err := source.Make(c.tenant, mustKID(t, c.kid))
			if err != nil || hex.EncodeToString(v[:]) != c.key || hex.EncodeToString(iv[:]) != c.iv {
				t.Errorf("%s %s: other key or IV, %v", c.tenant, c.kid, err)
			}
		}
	}
	for _, n := range []int{0, 16, 31} {
		if _, err := keystore.NewHKDF(make([]byte, n)); !errors.Is(err, keystore.ErrSeed) {
			t.Errorf("a seed of %d bytes: %v", n, err)
		}
	}
	mutable := seed()
	if source, err = keystore.NewHKDF(mutable); err != nil {
		t.Fatal(err)
	}
	clear(mutable)
	if v, _, _ := source.Make("acme", contentkey.KID{}); v == (contentkey.Value{}) {
		t.Error("no key")
	} else if same, _ := keystore.NewHKDF(seed()); same != nil {
		if w, _, _ := same.Make("acme", contentkey.KID{}); w != v {
			t.Error("the source depends on the caller's memory")
		}
	}
}

func TestRandomReplays(t *testing.T) {
	source := keystore.Random{Reader: bytes.NewReader(seed())}
	v, iv, err := source.Make("acme", kid(1))
	if err != nil || !bytes.Equal(append(v[:], iv[:]...), seed()) {
		t.Errorf("key and IV are not what the reader gave: %v", err)
	}
	if _, _, err := source.Make("acme", kid(1)); !errors.Is(err, io.EOF) {
		t.Errorf("a reader at its end: %v", err)
	}
	a, _, err := keystore.Random{}.Make("acme", kid(1))
	b, _, err2 := keystore.Random{}.Make("acme", kid(1))
	if err != nil || err2 != nil || a == b {
		t.Errorf("two random keys are alike, or %v, %v", err, err2)
	}
}

// TestDerived uses two published values of Microsoft's key seed algorithm
// (D-232) as its derivation's results.
func TestDerived(t *testing.T) {
	keys := map[contentkey.KID]string{
		mustKID(t, "339c45b5-fb6d-4bd9-994c-eabd9d41c95b"): "pTfNwMplhBQG1SXnvyLXVA==",
		mustKID(t, "01020304-0506-0708-090a-aabbccddeeff"): "GUf166PQbx+sgBADjyBMvw==",
	}
	none := errors.New("no such key ID")
	source := &keystore.Derived{Label: "playready-seed", Key: func(kid contentkey.KID) (v contentkey.Value, err error) {
		text, ok := keys[kid]
		if !ok {
			return v, none
		}
		_, err = base64.StdEncoding.Decode(v[:], []byte(text)[:24])
		return v, err
	}}
	f := start(t, keystore.Options{})
	for kid, want := range keys {
		a := ask("movie", kid)
		a.Source = source
		got := f.obtain(a)[0]
		if base64.StdEncoding.EncodeToString(got.Value[:]) != want || got.IV.IsZero() {
			t.Errorf("%s: another key", kid)
		}
		if r := f.stored(kid); r.Source != "playready-seed" {
			t.Errorf("recorded as made by %q", r.Source)
		}
	}
	a := ask("movie", kid(1), kid(2))
	a.Source = source
	if keys, err := f.Obtain(t.Context(), a); keys != nil || !errors.Is(err, none) {
		t.Errorf("a derivation that fails: %v", err)
	}
	broken := &keystore.Derived{Label: "x", Key: func(contentkey.KID) (contentkey.Value, error) { return contentkey.Value{1}, nil },
		Reader: iotest.ErrReader(none)}
	if v, _, err := broken.Make("acme", kid(1)); !errors.Is(err, none) || v != (contentkey.Value{}) {
		t.Errorf("an IV that cannot be made: %v", err)
	}
}

// TestSourceChanges holds that what is stored wins over a source that would
// now make another key.
func TestSourceChanges(t *testing.T) {
	f := start(t, keystore.Options{})
	source, err := keystore.NewHKDF(seed())
	if err != nil {
		t.Fatal(err)
	}
	a := ask("movie", kid(1))
	a.Source = source
	first := f.obtain(a)[0]
	if f.stored(kid(1)).Source != "hkdf" || f.stored(kid(1)).ContentID != "movie" || f.stored(kid(1)).Scheme != contentkey.Cbcs {
		t.Errorf("recorded: %+v", f.stored(kid(1)))
	}
	f.restart()
	a.Source, err = keystore.NewHKDF(append(seed(), 1))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.obtain(a)[0]; got.Value != first.Value || got.IV != first.IV {
		t.Error("another seed gave another key under the same key ID")
	}
}
