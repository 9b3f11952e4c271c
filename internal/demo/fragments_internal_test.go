package demo

import "testing"

// TestFragments holds that everything that the page leaves open is filled in,
// and that text stays text.
func TestFragments(t *testing.T) {
	f := parseFragments("<!-- part a -->\n<p title=\"{{x}}\">{{x}} {{y}}</p>\n<!-- part b -->\n<b>\n")
	got := f.fill("a", values{"x": `"<{{y}}>`, "y": f["b"]})
	if want := markup(`<p title="&#34;&lt;{{y}}&gt;">&#34;&lt;{{y}}&gt; &lt;b&gt;</p>`); got != want {
		t.Errorf("%s", got)
	}
}
