package demo

import (
	"fmt"
	"html"
	"strings"
)

// fragments are the parts of assets/page.html by name, with {{name}} where
// something goes in. This is all of a template language that the page needs;
// html/template would keep the linker from leaving out what nobody calls, in
// the whole program.
type fragments map[string]string

const partMark = "<!-- part "

func parseFragments(text string) fragments {
	f := make(fragments)
	for _, part := range strings.Split(text, partMark)[1:] {
		name, body, _ := strings.Cut(part, " -->\n")
		f[name] = strings.TrimSuffix(body, "\n")
	}
	return f
}

// values go into a fragment, by name. A string is text and is escaped;
// [markup] is not.
type values map[string]any

// markup is HTML whose parts have been escaped.
type markup string

// esc makes markup of text, for content and for attributes in double quotes.
func esc(text string) markup { return markup(html.EscapeString(text)) }

func (f fragments) fill(name string, v values) markup {
	pairs := make([]string, 0, 2*len(v))
	for name, value := range v {
		out, ok := value.(markup)
		if !ok {
			out = esc(fmt.Sprint(value))
		}
		pairs = append(pairs, "{{"+name+"}}", string(out))
	}
	return markup(strings.NewReplacer(pairs...).Replace(f[name]))
}

// each joins what a function makes of each element.
func each[T any](list []T, f func(*T) markup) markup {
	var b strings.Builder
	for i := range list {
		b.WriteString(string(f(&list[i])))
	}
	return markup(b.String())
}

// when is markup under a condition.
func when(ok bool, m markup) markup {
	if ok {
		return m
	}
	return ""
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
