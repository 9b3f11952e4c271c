package upstream_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"spekeasy/internal/upstream"
)

// fill sets every secret of a value to a text of its own, one level of
// fallbacks deep, and returns how many there are.
func fill(v reflect.Value, deep bool, n *int) {
	secret := reflect.TypeFor[upstream.Secret]()
	next := func() reflect.Value {
		*n++
		return reflect.ValueOf(upstream.Secret(fmt.Sprintf("hush-%d", *n)))
	}
	switch {
	case v.Type() == secret:
		v.Set(next())
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), deep, n)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), deep, n)
		}
	case v.Kind() == reflect.Map && v.Type().Elem() == secret:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("X-A"), next())
	case v.Type() == reflect.TypeFor[[]upstream.Settings]() && deep:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), false, n)
		fill(v.Index(1), false, n)
	}
}

// TestSecrets: no secret that settings can have is passed over, each has a
// place of its own, and none is in what is written.
func TestSecrets(t *testing.T) {
	var s upstream.Settings
	n := 0
	fill(reflect.ValueOf(&s).Elem(), true, &n)
	if n < 30 {
		t.Fatalf("only %d secrets", n)
	}
	seen := make(map[string]upstream.Secret)
	s.Secrets(func(place string, v upstream.Secret) upstream.Secret {
		if _, twice := seen[place]; twice {
			t.Errorf("%s twice", place)
		}
		seen[place] = v
		return "other"
	})
	if len(seen) != n {
		t.Errorf("%d secrets, %d visited", n, len(seen))
	}
	if s.Fallback[1].Auth.Basic.Password != "other" || s.Headers["X-A"] != "other" {
		t.Error("what was returned is not put in its place")
	}
	text, err := json.Marshal(&s)
	if err != nil || strings.Contains(string(text), "other") || strings.Contains(fmt.Sprintf("%+v %#v", s, s), "other") {
		t.Errorf("%s, %v", text, err)
	}
}

// TestSameAddresses: whatever leads a secret elsewhere is another address.
func TestSameAddresses(t *testing.T) {
	made := func(change func(*upstream.Settings)) *upstream.Settings {
		s := &upstream.Settings{
			Vendor: "generic", URL: "https://a.example/x", URLV2: "https://b.example/x",
			Auth:     upstream.Auth{OAuth: &upstream.OAuth{TokenURL: "https://c.example/token"}},
			Fallback: []upstream.Settings{{Vendor: "axinom", URL: "https://d.example/x"}},
		}
		change(s)
		return s
	}
	same := made(func(*upstream.Settings) {})
	for name, change := range map[string]func(*upstream.Settings){
		"vendor":       func(s *upstream.Settings) { s.Vendor = "axinom" },
		"host":         func(s *upstream.Settings) { s.URL = "https://evil.example/x" },
		"plain text":   func(s *upstream.Settings) { s.URL = "http://a.example/x" },
		"second host":  func(s *upstream.Settings) { s.URLV2 = "https://evil.example/x" },
		"token host":   func(s *upstream.Settings) { s.Auth.OAuth.TokenURL = "https://evil.example/token" },
		"certificates": func(s *upstream.Settings) { s.Auth.CA = "PEM" },
		"fallback":     func(s *upstream.Settings) { s.Fallback[0].URL = "https://evil.example/x" },
		"one more":     func(s *upstream.Settings) { s.Fallback = append(s.Fallback, s.Fallback[0]) },
	} {
		if same.SameAddresses(made(change)) {
			t.Errorf("%s: the same", name)
		}
	}
	if !same.SameAddresses(made(func(s *upstream.Settings) { s.URL, s.Auth.Token = "https://a.example/y", "t" })) {
		t.Error("another path of the same host is another address")
	}
}
