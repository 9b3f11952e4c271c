package upstream

import (
	"fmt"
	"slices"
)

// Secrets calls f for every secret that is set, those of fallbacks included,
// with its place such as auth.basic.password, and puts what f returns in that
// place.
func (s *Settings) Secrets(f func(place string, value Secret) Secret) { s.secrets("", f) }

func (s *Settings) secrets(prefix string, f func(string, Secret) Secret) {
	one := func(place string, v *Secret) {
		if *v != "" {
			*v = f(prefix+place, *v)
		}
	}
	for name, v := range s.Headers {
		one("headers."+name, &v)
		s.Headers[name] = v
	}
	for name, v := range s.Query {
		one("query."+name, &v)
		s.Query[name] = v
	}
	one("recipient.key", &s.Recipient.Key)
	a := &s.Auth
	if a.Basic != nil {
		one("auth.basic.password", &a.Basic.Password)
	}
	if a.Bearer != nil {
		one("auth.bearer.token", &a.Bearer.Token)
	}
	if a.OAuth != nil {
		one("auth.oauth.secret", &a.OAuth.Secret)
	}
	if a.Header != nil {
		one("auth.header.value", &a.Header.Value)
	}
	if a.Query != nil {
		one("auth.query.value", &a.Query.Value)
	}
	one("auth.token", &a.Token)
	if a.SigV4 != nil {
		one("auth.sigv4.secret_access_key", &a.SigV4.SecretAccessKey)
		one("auth.sigv4.session_token", &a.SigV4.SessionToken)
	}
	one("auth.mtls.key", &a.MTLS.Key)
	for i := range s.Fallback {
		s.Fallback[i].secrets(fmt.Sprintf("%sfallback.%d.", prefix, i), f)
	}
}

// SameAddresses reports whether both would show their secrets to the same
// hosts, trusting the same certificates.
func (s *Settings) SameAddresses(o *Settings) bool {
	tokens := func(s *Settings) string {
		if s.Auth.OAuth == nil {
			return ""
		}
		return origin(s.Auth.OAuth.TokenURL)
	}
	return s.Vendor == o.Vendor && origin(s.URL) == origin(o.URL) && origin(s.URLV2) == origin(o.URLV2) && tokens(s) == tokens(o) &&
		s.Auth.CA == o.Auth.CA && slices.EqualFunc(s.Fallback, o.Fallback, func(a, b Settings) bool { return a.SameAddresses(&b) })
}

// WithoutPaths returns the settings with the origins of its URLs only: paths
// and queries in a configuration file can hold tokens.
func (s *Settings) WithoutPaths() *Settings {
	short := *s
	short.URL, short.URLV2, short.Heartbeat.URL = origin(s.URL), origin(s.URLV2), origin(s.Heartbeat.URL)
	short.Fallback = slices.Clone(s.Fallback)
	for i := range short.Fallback {
		short.Fallback[i] = *short.Fallback[i].WithoutPaths()
	}
	return &short
}
