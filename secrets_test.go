package spekeasy_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/encryptor"
	"spekeasy/speke"
)

// TestStructsHideKeys prints what carries a content key between packages, and
// pointers to it, with every verb there is but %p and %w, which fmt keeps from
// methods and vet keeps from values.
func TestStructsHideKeys(t *testing.T) {
	v := contentkey.Value([]byte("sixteen byte key"))
	for _, carrier := range []any{
		v, &v, []contentkey.Value{v}, map[string]contentkey.Value{"a": v},
		speke.Grant{Value: v}, &speke.Grant{Value: v}, []speke.Grant{{Value: v}},
		drm.Track{Key: v}, &drm.Track{Key: v}, []*drm.Track{{Key: v}},
		encryptor.Key{Value: v, HasValue: true}, &encryptor.Key{Value: v}, []encryptor.Key{{Value: v}},
	} {
		for _, flags := range []string{"", "+", "#", " ", "0", "-"} {
			for verb := 'A'; verb <= 'z'; verb++ {
				if strings.ContainsRune(`[\]pw`, verb) {
					continue
				}
				text := fmt.Sprintf("%"+flags+string(verb), carrier)
				for _, form := range []string{
					string(v[:]), hex.EncodeToString(v[:]), fmt.Sprintf("% x", v[:]), fmt.Sprintf("% d", [16]byte(v)), "115 105 120", "0x73, 0x69",
				} {
					if strings.Contains(strings.ToLower(text), form) {
						t.Fatalf("%%%s%c of %T: %s", flags, verb, carrier, text)
					}
				}
			}
		}
	}
}
