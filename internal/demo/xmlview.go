package demo

import (
	"fmt"
	"html"
	"regexp"
	"strings"
)

// xmlLine is a line of a document as the page shows it.
type xmlLine struct {
	Indent int
	HTML   markup
	Change string // "blank" for what is to be filled in, "filled" for what was
	plain  string
}

// markup is the line's row.
func (l *xmlLine) markup() markup {
	return "<div" + when(l.Change != "", ` class="`+esc(l.Change)+`"`) + ">" + markup(strings.Repeat("  ", l.Indent)) + l.HTML + "</div>"
}

var (
	tokens     = regexp.MustCompile(`<[^>]+>|[^<]+`)
	attributes = regexp.MustCompile(`([\w:.-]+)=("[^"]*"|'[^']*')`)
	namespaces = regexp.MustCompile(`\s+xmlns[\w:.-]*=("[^"]*"|'[^']*')`)
	keyValue   = regexp.MustCompile(`PlainValue>$`)
)

// xmlLines lays a document out, an element on a line. The document is one of
// ours: well-formed, with no comments and no sections of character data.
// Declarations of namespaces are left out: they are the same in all.
func xmlLines(doc []byte) []xmlLine {
	list := tokens.FindAllString(namespaces.ReplaceAllString(string(doc), ""), -1)
	var lines []xmlLine
	depth := 0
	for i := 0; i < len(list); i++ {
		t := list[i]
		switch {
		case strings.TrimSpace(t) == "" || strings.HasPrefix(t, "<?"):
		case strings.HasPrefix(t, "</"):
			depth--
			lines = append(lines, xmlLine{Indent: depth, HTML: tagHTML(t), plain: t})
		case strings.HasSuffix(t, "/>"):
			lines = append(lines, xmlLine{Indent: depth, HTML: tagHTML(t), plain: t})
		case i+2 < len(list) && strings.HasPrefix(t, "<") && !strings.HasPrefix(list[i+1], "<") && strings.HasPrefix(list[i+2], "</"):
			text := strings.TrimSpace(list[i+1])
			lines = append(lines, xmlLine{
				Indent: depth, plain: t + text,
				HTML: tagHTML(t) + textHTML(text, keyValue.MatchString(t)) + tagHTML(list[i+2]),
			})
			i += 2
		case strings.HasPrefix(t, "<"):
			lines = append(lines, xmlLine{Indent: depth, HTML: tagHTML(t), plain: t})
			depth++
		default:
			lines = append(lines, xmlLine{Indent: depth, HTML: textHTML(strings.TrimSpace(t), false), plain: t})
		}
	}
	return lines
}

// tagHTML colors a tag.
func tagHTML(t string) markup {
	inner := strings.Trim(t, "<>")
	name, rest, _ := strings.Cut(strings.TrimSuffix(inner, "/"), " ")
	var b strings.Builder
	open, end := "&lt;", "&gt;"
	if strings.HasPrefix(name, "/") {
		name, open = name[1:], "&lt;/"
	}
	if strings.HasSuffix(inner, "/") {
		end = "/&gt;"
	}
	fmt.Fprintf(&b, `<i>%s</i><b>%s</b>`, open, html.EscapeString(name))
	for _, m := range attributes.FindAllStringSubmatch(rest, -1) {
		fmt.Fprintf(&b, ` <em>%s</em><i>=</i><q>%s</q>`, html.EscapeString(m[1]), html.EscapeString(m[2]))
	}
	fmt.Fprintf(&b, `<i>%s</i>`, end)
	return markup(b.String())
}

// textHTML shortens long text, and hides content keys until the reader wants
// to see them.
func textHTML(text string, key bool) markup {
	const most = 44
	shown := text
	if len(text) > most {
		shown = text[:most] + "…"
	}
	out := html.EscapeString(html.UnescapeString(shown))
	if key {
		return markup(`<span class="key"><span class="masked">` + strings.Repeat("•", len(text)) + `</span><span class="clear">` + out + `</span></span>`)
	}
	if len(text) > most {
		out += fmt.Sprintf(`<small> %d more</small>`, len(text)-most)
	}
	return markup("<span>" + out + "</span>")
}

// markChanges marks the lines of the request that are not in the answer, and
// the other way round, by a longest common subsequence.
func markChanges(request, answer []xmlLine) {
	n, m := len(request), len(answer)
	common := make([][]int, n+1)
	for i := range common {
		common[i] = make([]int, m+1)
	}
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if request[i].plain == answer[j].plain {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < n || j < m {
		switch {
		case i < n && j < m && request[i].plain == answer[j].plain:
			i, j = i+1, j+1
		case j < m && (i == n || common[i][j+1] >= common[i+1][j]):
			answer[j].Change = "filled"
			j++
		default:
			request[i].Change = "blank"
			i++
		}
	}
}
