package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

var errURL = errors.New("not an absolute http or https URL without user and fragment")

// checkURL judges a URL, which may be a template. The error does not quote it.
func checkURL(name, text string) error {
	if text == "" {
		return fmt.Errorf("%s: required", name)
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsAny(u.Host, "{}") {
		return fmt.Errorf("%s: %w", name, errURL)
	}
	for rest := text; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			return nil
		}
		placeholder, more, ok := strings.Cut(after, "}")
		if !ok {
			return fmt.Errorf("%s: { without }", name)
		}
		switch placeholder {
		case "contentId", "kid", "tenant", "token":
		default:
			return fmt.Errorf("%s: {%s} is none of {contentId}, {kid}, {tenant}, {token}", name, placeholder)
		}
		rest = more
	}
}

// origin is the beginning of a URL, before its path.
func origin(text string) string {
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		host, _, _ := strings.Cut(rest, "/")
		host, _, _ = strings.Cut(host, "?")
		return scheme + "://" + host
	}
	return text
}

// path is the rest.
func path(text string) string { return strings.TrimPrefix(text, origin(text)) }

// replaceEnd changes the last segment of the path.
func replaceEnd(text, old, with string) string {
	before, query, found := strings.Cut(text, "?")
	head, ok := strings.CutSuffix(before, old)
	if !ok {
		return text
	}
	if found {
		return head + with + "?" + query
	}
	return head + with
}

func addParameter(text, parameter string) string {
	if strings.Contains(text, "?") {
		return text + "&" + parameter
	}
	return text + "?" + parameter
}

// Expand fills in a template. value finds what a placeholder stands for; it is
// percent-encoded for a path, which serves for a query too.
func Expand(template string, value func(placeholder string) string) string {
	if !strings.Contains(template, "{") {
		return template
	}
	var out strings.Builder
	for {
		before, after, ok := strings.Cut(template, "{")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		placeholder, rest, _ := strings.Cut(after, "}")
		out.WriteString(strings.ReplaceAll(url.QueryEscape(value(placeholder)), "+", "%20"))
		template = rest
	}
}
