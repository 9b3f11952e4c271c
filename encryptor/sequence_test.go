package encryptor

import (
	"strings"
	"testing"
)

// read reads a changed worked answer to the same request.
func read(t *testing.T, name string, change func(string) string) *Answer {
	t.Helper()
	r, h, body := worked(t, name)
	a, err := ReadAnswer(r, h, []byte(change(body)))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wantOnly(t *testing.T, got []Violation, rule string) {
	t.Helper()
	if rule == "" && len(got) == 0 || len(got) == 1 && got[0].Rule == rule {
		return
	}
	t.Errorf("got %v, want %s", got, rule)
}

func TestCheckRepeat(t *testing.T) {
	same := func(s string) string { return s }
	moved := func(s string) string { return strings.ReplaceAll(s, "\n", "\n\n") }
	for _, test := range []struct {
		name   string
		change func(string) string
		rule   string
	}{
		{"the same", moved, ""},
		{"another content key", replace("TFcT1S6NgtvoHhxtSG01aQ==", "UFcT1S6NgtvoHhxtSG01aQ=="), "SX-SEQ-16"},
		{"another key ID", replaceAll("5c9d7e3a", "6c9d7e3a"), "SX-KID-06"},
		{"another explicitIV", replace("dJ5l+Gn20AOodk5erTvEmg==", "eJ5l+Gn20AOodk5erTvEmg=="), "SX-SEQ-16"},
		{"no explicitIV", replace(`explicitIV="dJ5l+Gn20AOodk5erTvEmg=="`, ""), "SX-SEQ-16"},
		{"no key", without(1, "cpix:ContentKeyList"), "SX-SEQ-16"},
		{"no value, which Check reports", replace("TFcT1S6NgtvoHhxtSG01aQ==", ""), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantOnly(t, CheckRepeat(read(t, "v2-cmaf", same), read(t, "v2-cmaf", test.change)), test.rule)
		})
	}
}

func TestCheckRotation(t *testing.T) {
	rotate := func(s string) string {
		s = strings.NewReplacer("6052faa8-56da-39ad-ab71-0b98f396954d", "6d74cb65-7a11-3741-bf29-d513f1e47296",
			"829db5c3-8398-350b-96ed-155727bafab1", "d9c2ff3b-243b-3ee4-91fc-0b8cd562c5fb", `index="6"`, `index="7"`).Replace(s)
		return strings.Replace(s, "9XTuStPquOF/WR2wVgiUEg==", "8XTuStPquOF/WR2wVgiUEg==", 1)
	}
	for _, test := range []struct {
		name   string
		change func(string) string
		rule   string
	}{
		{"rotated", rotate, ""},
		{"the key ID stays", func(s string) string {
			return strings.ReplaceAll(rotate(s), "6d74cb65-7a11-3741-bf29-d513f1e47296", "6052faa8-56da-39ad-ab71-0b98f396954d")
		}, "SX-SEQ-13"},
		{"the content key stays", func(s string) string {
			return strings.ReplaceAll(rotate(s), "8XTuStPquOF/WR2wVgiUEg==", "9XTuStPquOF/WR2wVgiUEg==")
		}, "S2-PAY-20"},
		{"another label", func(s string) string { return strings.ReplaceAll(rotate(s), `"ALL"`, `"VIDEO"`) }, "S2-ERR-22"},
		{"another filter", func(s string) string {
			return strings.ReplaceAll(rotate(s), "<cpix:VideoFilter/>", `<cpix:VideoFilter maxPixels="589824"/>`)
		}, "S2-ERR-22"},
		{"fewer filters", func(s string) string { return strings.ReplaceAll(rotate(s), "<cpix:VideoFilter/>", "") }, "S2-ERR-22"},
		{"other media", func(s string) string {
			return strings.ReplaceAll(rotate(s), "<cpix:VideoFilter/>", "<cpix:AudioFilter/>")
		}, "S2-ERR-22"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := read(t, "v2-rotation", func(s string) string { return s })
			wantOnly(t, CheckRotation(before, read(t, "v2-rotation", test.change)), test.rule)
		})
	}
}
