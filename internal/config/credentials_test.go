package config_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/config"
	"spekeasy/internal/tenant"
)

// parse reads a configuration with one tenant and its credentials, one per
// line.
func parse(credentials string) (*config.Config, error) {
	text := "data: d\ntenants:\n- id: acme\n  credentials:\n  - " + strings.ReplaceAll(credentials, "\n", "\n  - ") + "\n"
	return config.Parse([]byte(text), func(name string) (string, bool) { return "value-of-" + name, true })
}

const digestHex = "9F:86:D0:81:88:4C:7D:65:9A:2F:EA:A0:C5:5A:D0:15:A3:BF:4F:1B:2B:0B:82:2C:D1:5D:6C:15:B0:F0:0A:08"

func TestCredentials(t *testing.T) {
	for name, text := range map[string]string{
		"basic":             "{name: c, basic: {user: u, password: '${SECRET}'}}",
		"basic, hashed":     "{name: c, basic: {user: u, password_hash: '$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4'}}",
		"api key":           "{name: c, api_key: {key: k}}",
		"api key, hashed":   "{name: c, api_key: {header: keyos-userkey, sha256: '" + digestHex + "'}}",
		"token":             "{name: c, token: {token: t}}",
		"token, hashed":     "{name: c, token: {parameter: kms-token, sha256: '" + strings.ReplaceAll(digestHex, ":", "") + "'}}",
		"digest":            "{name: c, digest: {user: u, password: p, rfc2069: true}}",
		"mtls":              "{name: c, mtls: {sha256: '" + digestHex + "'}}",
		"mtls by subject":   "{name: c, mtls: {subject: 'CN=x,O=y'}}",
		"delivery":          "{name: c, delivery_certificate: {sha256: '" + digestHex + "'}}",
		"iam":               "{name: c, iam: {arns: ['arn:aws:iam::123456789012:role/service/Speke', 'arn:aws-us-gov:sts::123456789012:assumed-role/Speke/*']}}",
		"sigv4":             "{name: c, sigv4: {access_key_id: SPKEXAMPLE, secret_access_key: 0123456789abcdef, regions: [eu-west-1]}}",
		"oauth client":      "{name: c, oauth_client: {id: i, secret: s}}",
		"jwt":               "{name: c, jwt: {issuer: 'https://idp.example.com', jwks_url: 'https://idp.example.com/keys', audience: keys, claims: {tid: acme}}}",
		"jwt from loopback": "{name: c, jwt: {issuer: i, jwks_url: 'http://127.0.0.1:1/keys', audience: keys}}",
		"from date to time": "{name: c, not_before: 2026-01-31, expires: 2026-02-28T12:00:00+01:00, api_key: {key: k}}",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(text); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCredentialTimes(t *testing.T) {
	c, err := parse("{name: c, not_before: 2026-01-31, expires: 2026-02-28T12:00:00+01:00, api_key: {key: k}}")
	if err != nil {
		t.Fatal(err)
	}
	got := c.Tenants[0].Credentials[0]
	from, until, err := got.Validity()
	if err != nil || !from.Equal(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)) || !until.Equal(time.Date(2026, 2, 28, 11, 0, 0, 0, time.UTC)) {
		t.Errorf("from %s to %s, %v", from, until, err)
	}
}

// TestCredentialFaults holds the words in which a fault is told, and that no
// secret is among them.
func TestCredentialFaults(t *testing.T) {
	for text, want := range map[string]string{
		"{name: c}":                                                                                    "no way in is given: one of basic, api_key, token, ",
		"{api_key: {key: hunter2}}":                                                                    "name: required",
		"{name: c, expires: 2026-13-01}":                                                               "expires: neither a date such as 2026-12-31 nor a time such as 2026-12-31T12:00:00Z",
		"{name: c, api_key: {}}":                                                                       "api_key: one of key and sha256 is required",
		"{name: c, token: {}}":                                                                         "token: one of token and sha256 is required",
		"{name: c, api_key: {sha256: hunter2}}":                                                        "api_key: sha256: not a SHA-256 digest in hexadecimal",
		"{name: c, api_key: {key: hunter2, sha256: hunter2}}":                                          "api_key: one of key and sha256 is required",
		"{name: c, api_key: {key: hunter2, header: 'a b'}}":                                            "api_key: header: not the name of a header",
		"{name: c, token: {token: hunter2, parameter: 'a&b=c'}}":                                       "token: parameter: not the name of a query parameter",
		"{name: c, basic: {user: u}}":                                                                  "basic: user and one of password and password_hash are required",
		"{name: c, basic: {user: u, password: hunter2, password_hash: hunter2}}":                       "basic: user and one of password and password_hash are required",
		"{name: c, basic: {user: u, password_hash: hunter2}}":                                          "basic: password_hash: neither a bcrypt nor an argon2id hash",
		"{name: c, oauth_client: {id: i}}":                                                             "oauth_client: one of secret and sha256 is required",
		"{name: c, oauth_client: {secret: hunter2}}":                                                   "oauth_client: id: required",
		"{name: c, jwt: {issuer: i, jwks_url: 'https://i'}}":                                           "jwt: issuer, jwks_url and audience are required",
		"{name: c, jwt: {issuer: i, audience: a, jwks_url: 'http://idp.example.com'}}":                 "jwt: jwks_url: https is required",
		"{name: c, jwt: {issuer: i, audience: a, jwks_url: '/keys'}}":                                  "jwt: jwks_url: not a URL",
		"{name: c, mtls: {}}":                                                                          "mtls: one of sha256 and subject is required",
		"{name: c, mtls: {sha256: 'hunter2'}}":                                                         "mtls: sha256: not a SHA-256 digest in hexadecimal",
		"{name: c, delivery_certificate: {}}":                                                          "delivery_certificate: sha256: not a SHA-256 digest in hexadecimal",
		"{name: c, iam: {arns: []}}":                                                                   "iam: arns: at least one is required",
		"{name: c, iam: {arns: ['arn:aws:iam::*:role/Speke']}}":                                        `iam: arns: "arn:aws:iam::*:role/Speke" is not the ARN of a role, user or session in one account`,
		"{name: c, iam: {arns: ['*']}}":                                                                `iam: arns: "*" is not the ARN`,
		"{name: c, sigv4: {access_key_id: 'a/b', secret_access_key: hunter2}}":                         "sigv4: access_key_id: 4 to 128 letters, digits, - and _",
		"{name: c, sigv4: {access_key_id: abcd, secret_access_key: hunter2}}":                          "sigv4: secret_access_key: at least 16 characters",
		"{name: c, sigv4: {access_key_id: abcd, secret_access_key: hunter2hunter2hunter2}}":            "sigv4: regions: at least one is required",
		"{name: c, digest: {user: u}}":                                                                 "digest: user and password are required",
		"{name: c, digest: {user: 'u:v', password: hunter2}}":                                          "digest: user must not have a colon",
		"{name: c, basic: {user: 'u:v', password: hunter2}}":                                           "basic: user must not have a colon",
		"{name: c, basic: {user: u, password: hunter2}, token: {token: hunter2}}":                      "basic and token are given, but a credential is one way in",
		"{name: c, not_before: 2026-02-02, expires: 2026-02-02, basic: {user: hunter2, password: pw}}": "expires: must be after not_before",
		"{name: c, api_key: {key: hunter2, secret: hunter2}}":                                          `unknown field "secret"`,
		"{name: c, basic: {user: u, password: hunter2}}\n{name: c, basic: {user: u, password: pass}}":  "credentials[1] (c): the name occurs twice",
	} {
		t.Run(want, func(t *testing.T) {
			_, err := parse(text)
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// TestSecretsDoNotPrint: a configuration that ends up in a log shows no
// secret.
func TestSecretsDoNotPrint(t *testing.T) {
	c := tenant.Credential{Name: "c", Basic: &tenant.Basic{User: "u", Password: "hunter2"}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if text := fmt.Sprintf(verb+" "+verb+" "+verb, c, *c.Basic, c.Basic.Password); strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}
