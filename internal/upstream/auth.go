package upstream

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Auth is what lets us in. Several kinds can be combined, such as a client
// certificate with an API key, but only one can be the Authorization header.
type Auth struct {
	Basic  *Basic  `yaml:"basic,omitempty" json:"basic,omitempty"`
	Bearer *Bearer `yaml:"bearer,omitempty" json:"bearer,omitempty"`
	OAuth  *OAuth  `yaml:"oauth,omitempty" json:"oauth,omitempty"`
	Header *Value  `yaml:"header,omitempty" json:"header,omitempty"` // an API key, or a user key
	Query  *Value  `yaml:"query,omitempty" json:"query,omitempty"`   // a parameter
	Token  Secret  `yaml:"token,omitempty" json:"token,omitzero"`    // what {token} in the URLs stands for
	SigV4  *SigV4  `yaml:"sigv4,omitempty" json:"sigv4,omitempty"`
	MTLS   KeyPair `yaml:"mtls,omitempty" json:"mtls,omitzero"` // a client certificate

	// CA is PEM certificates that the upstream's own is checked against,
	// instead of those of the system.
	CA string `yaml:"ca,omitempty" json:"ca,omitzero"`
}

// Basic is a user name and password (RFC 7617).
type Basic struct {
	User     string `yaml:"user" json:"user"`
	Password Secret `yaml:"password" json:"password"`
}

// Bearer is a token that does not change (RFC 6750).
type Bearer struct {
	Token Secret `yaml:"token" json:"token"`
}

// Value is a header or parameter with a secret in it.
type Value struct {
	Name  string `yaml:"name" json:"name"`
	Value Secret `yaml:"value" json:"value"`
}

// OAuth is OAuth 2.0 client credentials (RFC 6749, 4.4).
type OAuth struct {
	TokenURL string `yaml:"token_url" json:"token_url"`
	ID       string `yaml:"id" json:"id"`
	Secret   Secret `yaml:"secret" json:"secret"`
	Scope    string `yaml:"scope,omitempty" json:"scope,omitzero"`

	// Params is where grant_type and scope stand: in the body, as RFC 6749 has
	// it, or in the query with an empty body.
	Params string `yaml:"params,omitempty" json:"params,omitzero"` // body, query

	// Client is how the client tells who it is: by HTTP Basic, or by
	// parameters.
	Client string `yaml:"client,omitempty" json:"client,omitzero"` // basic, params
}

// SigV4 is an AWS access key.
type SigV4 struct {
	AccessKeyID     string `yaml:"access_key_id" json:"access_key_id"`
	SecretAccessKey Secret `yaml:"secret_access_key" json:"secret_access_key"`
	SessionToken    Secret `yaml:"session_token,omitempty" json:"session_token,omitzero"`
	Region          string `yaml:"region" json:"region"`
	Service         string `yaml:"service,omitempty" json:"service,omitzero"` // execute-api by default
}

// IsZero reports whether nothing lets us in.
func (a Auth) IsZero() bool {
	return a.Basic == nil && a.Bearer == nil && a.OAuth == nil && a.Header == nil && a.Query == nil && a.Token == "" &&
		a.SigV4 == nil && a.MTLS == (KeyPair{}) && a.CA == ""
}

// Format hides everything.
func (a Auth) Format(f fmt.State, _ rune) { f.Write([]byte(hidden)) } //nolint:errcheck // fmt keeps the error

func (a *Auth) check() error {
	var headers []string
	if a.Basic != nil {
		headers = append(headers, "basic")
		switch {
		case a.Basic.User == "" || a.Basic.Password == "":
			return errors.New("basic: user and password are required")
		case strings.Contains(a.Basic.User, ":"):
			return errors.New("basic: user: must not have a colon")
		}
	}
	if a.Bearer != nil {
		headers = append(headers, "bearer")
		if err := plain("bearer: token", string(a.Bearer.Token)); err != nil {
			return err
		}
	}
	if a.OAuth != nil {
		headers = append(headers, "oauth")
		if err := a.OAuth.check(); err != nil {
			return fmt.Errorf("oauth: %w", err)
		}
	}
	if a.SigV4 != nil {
		headers = append(headers, "sigv4")
		if s := a.SigV4; s.AccessKeyID == "" || s.SecretAccessKey == "" || s.Region == "" {
			return errors.New("sigv4: access_key_id, secret_access_key and region are required")
		}
	}
	if a.Header != nil {
		if strings.EqualFold(a.Header.Name, "Authorization") {
			headers = append(headers, "header")
		}
		if err := checkHeader(a.Header.Name, string(a.Header.Value)); err != nil {
			return fmt.Errorf("header: %w", err)
		}
	}
	if a.Query != nil && (a.Query.Name == "" || a.Query.Value == "") {
		return errors.New("query: name and value are required")
	}
	if len(headers) > 1 {
		return fmt.Errorf("only one of %s can be the Authorization header", strings.Join(headers, ", "))
	}
	return a.MTLS.check("mtls")
}

func (o *OAuth) check() error {
	switch {
	case o.ID == "" || o.Secret == "":
		return errors.New("id and secret are required")
	case o.Params != "" && o.Params != "body" && o.Params != "query":
		return fmt.Errorf("params: %q is neither body nor query", o.Params)
	case o.Client != "" && o.Client != "basic" && o.Client != "params":
		return fmt.Errorf("client: %q is neither basic nor params", o.Client)
	}
	return checkURL("token_url", o.TokenURL)
}

// plain refuses an empty text and one that cannot stand in a header.
func plain(name, text string) error {
	if text == "" {
		return fmt.Errorf("%s: required", name)
	}
	for i := range len(text) {
		if text[i] < ' ' && text[i] != '\t' || text[i] == 0x7f {
			return fmt.Errorf("%s: has control characters", name)
		}
	}
	return nil
}

// minEvery bounds how often somebody else's server is asked how it is.
const minEvery = 5 * time.Second
