package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// ErrWord reports a word that names no upstream. It never quotes the word,
// which holds a credential.
var ErrWord = errors.New("not an upstream of the form vendor+http://user:secret@host/path")

// ParseWord reads an upstream that is written as one word, for a command
// line:
//
//	axinom+https://TENANT:KEY@HOST/api/Speke
//	insys+https://CLIENT:SECRET@HOST/kms/speke?tenantId=ID#token=/oauth/token,scope=SCOPE
//	insys+https://:APIKEY@HOST/kms/speke?tenantId=ID
//	pallycon+https://TOKEN@HOST/cpix/getKey
//	keyos+https://USERKEY@HOST/copyProtection
//	generic+https://USER:PASSWORD@HOST/speke/copyProtection
//
// The same goes for +http. User and password of the URL are the credential,
// percent-encoded where a URL demands it; an empty user makes the password an
// API key, and a hint "token", a URL relative to the first, makes both an
// OAuth client. What follows the number sign is such hints, separated by
// commas; the others are "scope", and "v2" for the URL of SPEKE 2.x where the
// preset gives another. Nothing of it travels.
func ParseWord(word string) (*Settings, error) {
	scheme, _, _ := strings.Cut(word, "://")
	vendor, transport, _ := strings.Cut(scheme, "+")
	if !slices.Contains(Vendors(), vendor) || transport != "http" && transport != "https" {
		return nil, fmt.Errorf("%w, with one of the vendors %s", ErrWord, strings.Join(Vendors(), ", "))
	}
	u, err := url.Parse(strings.TrimPrefix(word, vendor+"+"))
	if err != nil || u.Host == "" {
		return nil, ErrWord // the parser's error would quote the word
	}
	user := u.User.Username()
	secret, _ := u.User.Password()
	hints, err := parseHints(u.EscapedFragment())
	if err != nil {
		return nil, err
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	s := &Settings{Vendor: vendor, URL: u.String()}
	if v2 := hints["v2"]; v2 != "" {
		at, err := u.Parse(v2)
		if err != nil {
			return nil, fmt.Errorf("%w: v2 is no URL", ErrWord)
		}
		s.URLV2 = at.String()
	}
	if err := s.wayIn(u, user, secret, hints); err != nil {
		return nil, err
	}
	return s, nil
}

// wayIn decides what the user and password of a word are.
func (s *Settings) wayIn(u *url.URL, user, secret string, hints map[string]string) error {
	switch {
	case s.Vendor == PallyCon || s.Vendor == KeyOS:
		if secret != "" {
			return fmt.Errorf("%w: %s has one secret and no user", ErrWord, s.Vendor)
		}
		if s.Vendor == PallyCon {
			if query := u.Query(); user == "" && query.Has("enc-token") { // as the vendor's console shows it
				user = query.Get("enc-token")
				query.Del("enc-token")
				u.RawQuery = query.Encode()
				s.URL = u.String()
			}
			if user == "" {
				return fmt.Errorf("%w: there is no token", ErrWord)
			}
			s.Auth.Token = Secret(user)
			return nil
		}
		if user != "" { // encrypted keys need none: the certificate in the document stands for it
			s.Auth.Header = &Value{Name: "keyos-userkey", Value: Secret(user)}
		}
		return nil
	case secret == "" && user == "" && s.Vendor == Generic:
		return nil
	case secret == "":
		return fmt.Errorf("%w: the credential has no secret", ErrWord)
	case hints["token"] != "":
		token, err := u.Parse(hints["token"])
		if err != nil {
			return fmt.Errorf("%w: token is no URL", ErrWord)
		}
		s.Auth.OAuth = &OAuth{TokenURL: token.String(), ID: user, Secret: Secret(secret), Scope: hints["scope"]}
	case user == "":
		name := "X-API-KEY"
		if s.Vendor == VUDRM {
			name = "API-KEY"
		}
		s.Auth.Header = &Value{Name: name, Value: Secret(secret)}
	case s.Vendor == EZDRM:
		s.Query = map[string]Secret{"u": Secret(user), "p": Secret(secret)}
	default:
		s.Auth.Basic = &Basic{User: user, Password: Secret(secret)}
	}
	return nil
}

// parseHints reads what follows the number sign.
func parseHints(fragment string) (map[string]string, error) {
	hints := make(map[string]string)
	if fragment == "" {
		return hints, nil
	}
	for part := range strings.SplitSeq(fragment, ",") {
		name, text, _ := strings.Cut(part, "=")
		value, err := url.PathUnescape(text)
		if err != nil || value == "" || !slices.Contains([]string{"token", "scope", "v2"}, name) {
			return nil, fmt.Errorf("%w: after # stand token=URL, scope=TEXT and v2=URL, separated by commas", ErrWord)
		}
		hints[name] = value
	}
	return hints, nil
}
