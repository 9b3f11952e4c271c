package contentkey_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"spekeasy/contentkey"
)

func TestParseKID(t *testing.T) {
	want := contentkey.KID{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	for _, s := range []string{"00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-AABBCCDDEEFF"} {
		got, err := contentkey.ParseKID(s)
		if err != nil || got != want {
			t.Errorf("ParseKID(%q) = %v, %v", s, got, err)
		}
	}
	if got := want.String(); got != "00112233-4455-6677-8899-aabbccddeeff" {
		t.Errorf("String() = %q", got)
	}
	for _, s := range []string{
		"", "00112233445566778899aabbccddeeff", "{00112233-4455-6677-8899-aabbccddeeff}",
		"urn:uuid:00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-aabbccddeefg",
		"00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-aabbccddeeff ",
		"0011223344-55-6677-8899-aabbccddeeff", "-0112233-4455-6677-8899-aabbccddeeff",
	} {
		if got, err := contentkey.ParseKID(s); err == nil {
			t.Errorf("ParseKID(%q) = %v, want an error", s, got)
		}
	}
}

// TestValueHides holds the product's promise for the type that carries keys:
// no way of printing it shows a byte.
func TestValueHides(t *testing.T) {
	v := contentkey.Value{0xde, 0xad, 0xbe, 0xef, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%T%v"} {
		fmt.Fprintf(&out, verb+"\n", v, v)
		fmt.Fprintf(&out, verb+"\n", &v, &v)
		fmt.Fprintf(&out, verb+"\n", struct{ K contentkey.Value }{v}, []contentkey.Value{v})
		fmt.Fprintf(&out, verb+"\n", map[string]contentkey.Value{"k": v}, v)
	}
	j, err := json.Marshal(map[string]any{"v": v, "p": &v, "s": []contentkey.Value{v}})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v, "p", &v, "any", struct{ K contentkey.Value }{v})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v, "p", &v, "any", struct{ K contentkey.Value }{v})
	lower := strings.ToLower(out.String())
	for _, leak := range []string{"dead", "de ad", "222 173", "3q2+7w", "0xde"} {
		if strings.Contains(lower, strings.ToLower(leak)) {
			t.Errorf("output shows %q:\n%s", leak, out.String())
		}
	}
}

func TestParseIV(t *testing.T) {
	for _, s := range []string{"L6jzdXrXAFbCJGBuMrrKrG==", "L6jzdXrXAFbCJGBuMrrKrA==", " L6jzdXrXAFbC\n JGBuMrrKrA== "} {
		iv, err := contentkey.ParseIV(s)
		if err != nil || iv.String() != "L6jzdXrXAFbCJGBuMrrKrA==" {
			t.Errorf("ParseIV(%q) = %v, %v", s, iv, err)
		}
	}
	for _, s := range []string{"", "AAAA", "AAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAAAA=", "!!!!"} {
		if _, err := contentkey.ParseIV(s); err == nil {
			t.Errorf("ParseIV(%q) gave no error", s)
		}
	}
}

// TestFourCC holds D-111.
func TestFourCC(t *testing.T) {
	for name, want := range map[string]uint32{"cenc": 1667591779, "cbc1": 1667392305, "cens": 1667591795, "cbcs": 1667392371} {
		s, err := contentkey.ParseScheme(name)
		if err != nil || s.FourCC() != want || s.String() != name {
			t.Errorf("%s: %v %d %v", name, s, s.FourCC(), err)
		}
	}
	for _, name := range []string{"", "CENC", "AES-128", "xxxx"} {
		if s, err := contentkey.ParseScheme(name); err == nil {
			t.Errorf("ParseScheme(%q) = %v", name, s)
		}
	}
}

func TestPeriodName(t *testing.T) {
	for _, c := range []struct {
		p    contentkey.Period
		want string
	}{
		{contentkey.Period{}, ""},
		{contentkey.Period{ID: "p", Index: "7", Start: "s"}, "7"},
		{contentkey.Period{ID: "p", Start: "s"}, "s"},
		{contentkey.Period{ID: "p"}, "p"},
	} {
		if got := c.p.Name(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.p, got, c.want)
		}
	}
}
