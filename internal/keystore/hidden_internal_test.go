package keystore

import (
	"fmt"
	"strings"
	"testing"

	"spekeasy/contentkey"
)

// TestHeldKeysAreHidden prints the types that hold opened keys.
func TestHeldKeysAreHidden(t *testing.T) {
	o := opened{value: contentkey.Value{0xde, 0xad, 0xbe, 0xef}}
	e := &entry{key: o}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d", "%s"} {
		fmt.Fprintf(&out, verb+verb+verb+verb, o, &o, e, []*entry{e})
		fmt.Fprintf(&out, verb, openKeys{{}: &o})
	}
	for _, leak := range []string{"dead", "de ad", "222", "0xde"} {
		if strings.Contains(strings.ToLower(out.String()), leak) {
			t.Errorf("%q shows in %s", leak, out.String())
		}
	}
}
