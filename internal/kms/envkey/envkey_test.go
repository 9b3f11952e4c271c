package envkey_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/envkey"
	"spekeasy/internal/kms/keyring"
	"spekeasy/internal/kms/kmstest"
)

var (
	key1 = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x5a}, 32))
	key2 = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xa7}, 32))
)

func open(raw, value string) (*keyring.Ring, error) {
	uri, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	return envkey.Open(uri, func(name string) (string, bool) { return value, name == "SPEKEASY_KEK" })
}

func TestKeyManager(t *testing.T) {
	manager := func(value string) func(*testing.T) kms.Manager {
		return func(t *testing.T) kms.Manager {
			ring, err := open("env:SPEKEASY_KEK", value)
			if err != nil {
				t.Fatal(err)
			}
			return ring
		}
	}
	kmstest.Run(t, kmstest.Backend{Open: manager(key1), OpenOther: manager(key2)})
}

func TestNames(t *testing.T) {
	derived := keyring.ID(bytes.Repeat([]byte{0x5a}, 32))
	for value, want := range map[string][]string{
		key1:                                {derived},
		" " + key1 + "\n":                   {derived},
		"2026-11:" + key1:                   {"2026-11"},
		"new:" + key2 + ", old:" + key1:     {"new", "old"},
		"new:" + key2 + ",\n" + key1 + "\n": {"new", derived},
	} {
		ring, err := open("env:SPEKEASY_KEK", value)
		if err != nil || !slices.Equal(ring.IDs(), want) || ring.KeyID() != want[0] {
			t.Errorf("%v: %v, want %v", value, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct{ uri, value, want string }{
		"no name":              {"env:", key1, "want env:NAME"},
		"a path":               {"env:///SPEKEASY_KEK", key1, "want env:NAME"},
		"another scheme":       {"file:SPEKEASY_KEK", key1, "want env:NAME"},
		"a parameter":          {"env:SPEKEASY_KEK?x=1", key1, "unknown parameter"},
		"another variable":     {"env:SPEKEASY_KEY", key1, "SPEKEASY_KEY is not set"},
		"empty":                {"env:SPEKEASY_KEK", " ", "is not set"},
		"not base64":           {"env:SPEKEASY_KEK", strings.Replace(key1, "W", "!", 1), "KEK 1"},
		"too short":            {"env:SPEKEASY_KEK", key1[:40], "KEK 1"},
		"hexadecimal":          {"env:SPEKEASY_KEK", strings.Repeat("5a", 32), "KEK 1"},
		"the second is broken": {"env:SPEKEASY_KEK", "a:" + key1 + ",b:" + key2[1:], "KEK 2"},
		"a comma at the end":   {"env:SPEKEASY_KEK", key1 + ",", "KEK 2"},
		"one name twice":       {"env:SPEKEASY_KEK", "a:" + key1 + ",a:" + key2, "two are called a"},
		"no name before colon": {"env:SPEKEASY_KEK", ":" + key1, "ID"},
		"key and name swapped": {"env:SPEKEASY_KEK", key1 + ":" + key2, "ID"},
	} {
		ring, err := open(c.uri, c.value)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
			continue
		}
		if ring != nil {
			t.Errorf("%s: an error and a ring", name)
		}
		if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, key1[:30]) || strings.Contains(text, "5a5a5a") {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
	if _, err := open("env:NONE", key1); !errors.Is(err, kms.ErrKeyUnusable) {
		t.Errorf("a missing variable: %v", err)
	}
}

// TestRotation holds that a new KEK in front wraps, and the old one behind it
// still opens.
func TestRotation(t *testing.T) {
	old, err := open("env:SPEKEASY_KEK", "old:"+key1)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := old.Wrap(t.Context(), []byte("data key"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	both, err := open("env:SPEKEASY_KEK", "new:"+key2+",old:"+key1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := both.Unwrap(t.Context(), "old", wrapped, []byte("aad")); err != nil || string(got) != "data key" {
		t.Errorf("the old KEK behind a new one: %v", err)
	}
	if _, err := both.Unwrap(t.Context(), "new", wrapped, []byte("aad")); !errors.Is(err, kms.ErrNotOpened) {
		t.Errorf("the new KEK opens what the old one wrapped: %v", err)
	}
	again, err := both.Wrap(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Unwrap(t.Context(), "old", again, nil); !errors.Is(err, kms.ErrNotOpened) {
		t.Errorf("the old KEK opens what the new one wrapped: %v", err)
	}
}

func TestHidesKeys(t *testing.T) {
	ring, err := open("env:SPEKEASY_KEK", key1)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d", "%s"} {
		fmt.Fprintf(&out, verb+verb, ring, *ring)
	}
	text := strings.ToLower(out.String())
	for _, leak := range []string{"5a5a", "90 90", "0x5a", "zzzz", strings.ToLower(key1[:8])} {
		if strings.Contains(text, leak) {
			t.Errorf("formatting shows %q: %s", leak, text)
		}
	}
}
