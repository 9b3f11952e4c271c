package auth

import (
	"errors"
	"strings"
)

var errParams = errors.New("malformed parameters")

// parseParams reads the parameters of an Authorization header: names with
// tokens or quoted strings, separated by commas (RFC 9110, 11.2). A name that
// occurs twice is an error; names are lower case in the result.
func parseParams(s string) (map[string]string, error) {
	out := make(map[string]string)
	i := 0
	skip := func(set string) {
		for i < len(s) && strings.IndexByte(set, s[i]) >= 0 {
			i++
		}
	}
	for {
		skip(" \t,")
		if i == len(s) {
			return out, nil
		}
		start := i
		for i < len(s) && tokenChar(s[i]) {
			i++
		}
		name := strings.ToLower(s[start:i])
		skip(" \t")
		if name == "" || i == len(s) || s[i] != '=' {
			return nil, errParams
		}
		i++
		skip(" \t")
		value, n := paramValue(s[i:])
		if n == 0 {
			return nil, errParams
		}
		i += n
		skip(" \t")
		if i < len(s) && s[i] != ',' {
			return nil, errParams
		}
		if _, twice := out[name]; twice {
			return nil, errParams
		}
		out[name] = value
	}
}

// paramValue reads a token or a quoted string and returns its length, 0 for
// neither.
func paramValue(s string) (value string, n int) {
	if s == "" || s[0] != '"' {
		for n < len(s) && tokenChar(s[n]) {
			n++
		}
		return s[:n], n
	}
	var b []byte
	for n = 1; n < len(s); n++ {
		switch s[n] {
		case '"':
			return string(b), n + 1
		case '\\':
			if n++; n == len(s) {
				return "", 0
			}
		}
		b = append(b, s[n])
	}
	return "", 0
}

func tokenChar(c byte) bool {
	return c > ' ' && c <= '~' && strings.IndexByte(`()<>@,;:\"/[]?={}`, c) < 0
}
