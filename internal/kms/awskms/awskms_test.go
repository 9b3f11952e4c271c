package awskms_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/awskms"
	"spekeasy/internal/kms/awskms/awskmstest"
	"spekeasy/internal/kms/kmstest"
)

func open(t *testing.T, raw string, opts awskms.Options) *awskms.Manager {
	t.Helper()
	uri, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	m, err := awskms.Open(t.Context(), uri, opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func credentials(c aws.Credentials) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil })
}

func openAt(t *testing.T, s *awskmstest.Server, arn string) *awskms.Manager {
	t.Helper()
	return open(t, "awskms:///"+arn+"?endpoint="+s.URL, awskms.Options{Credentials: credentials(s.Caller)})
}

func TestSuite(t *testing.T) {
	s := awskmstest.New(t, "eu-west-1")
	one, other := s.CreateKey(), s.CreateKey()
	kmstest.Run(t, kmstest.Backend{
		Open:      func(t *testing.T) kms.Manager { return openAt(t, s, one) },
		OpenOther: func(t *testing.T) kms.Manager { return openAt(t, s, other) },
		OpenUnreachable: func(t *testing.T) kms.Manager {
			return open(t, "awskms:///"+one+"?endpoint=http://127.0.0.1:1", awskms.Options{Credentials: credentials(s.Caller)})
		},
	})
}

func TestEndpointOfThePartition(t *testing.T) {
	for arn, host := range map[string]string{
		"arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab":            "kms.eu-west-1.amazonaws.com",
		"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab": "kms.us-gov-west-1.amazonaws.com",
		"arn:aws-cn:kms:cn-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab":        "kms.cn-north-1.amazonaws.com.cn",
	} {
		var asked string
		m := open(t, "awskms:///"+arn, awskms.Options{
			Credentials: credentials(aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}),
			HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				asked = r.URL.String()
				return nil, errors.New("not asked in a test")
			})},
		})
		if _, err := m.Wrap(t.Context(), []byte("x"), nil); !errors.Is(err, kms.ErrUnavailable) {
			t.Errorf("%s: %v", arn, err)
		}
		if want := "https://" + host + "/"; asked != want {
			t.Errorf("%s: asked %s, want %s", arn, asked, want)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestOpenRefusesURIs(t *testing.T) {
	const arn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for raw, want := range map[string]string{
		"awskms://alias/films":  "alias",
		"awskms:///alias/films": "alias",
		"awskms:///arn:aws:kms:eu-west-1:111122223333:alias/films": "alias",
		"awskms://1234abcd-12ab-34cd-56ef-1234567890ab":            "arn:aws:kms",
		"awskms:///1234abcd-12ab-34cd-56ef-1234567890ab":           "arn:aws:kms",
		"awskms:": "arn:aws:kms",
		"awskms:///arn:aws:sns:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab":               "arn:aws:kms",
		"awskms:///arn:aws:kms:eu-west-1:1111:key/1234abcd-12ab-34cd-56ef-1234567890ab":                       "arn:aws:kms",
		"awskms:///arn:aws:kms:eu_west_1.evil.example/:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab": "arn:aws:kms",
		"awskms:///arn:aws-iso:kms:us-iso-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab":       "endpoint",
		"awskms:///" + arn + "?region=eu-west-1":                                                              "region",
		"awskms:///" + arn + "?endpoint=http://10.0.0.1":                                                      "https",
		"awskms:///" + arn + "?endpoint=kms.example":                                                          "https",
		"awskms:///" + arn + "?secret=hunter2":                                                                "secret",
		"awskms://AKID:hunter2@/" + arn:                                                                       "credentials",
	} {
		uri, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = awskms.Open(t.Context(), uri, awskms.Options{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v, want one about %q that shows no secret", raw, err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(s *awskmstest.Server, arn string)
		want    error
		says    string
	}{
		"disabled":         {func(s *awskmstest.Server, arn string) { s.SetState(arn, "Disabled") }, kms.ErrKeyUnusable, "enable-key"},
		"pending deletion": {func(s *awskmstest.Server, arn string) { s.SetState(arn, "PendingDeletion") }, kms.ErrKeyUnusable, "pending deletion"},
		"signing key":      {func(s *awskmstest.Server, arn string) { s.SetUsage(arn, "SIGN_VERIFY") }, kms.ErrKeyUnusable, "ENCRYPT_DECRYPT"},
		"no permission":    {func(s *awskmstest.Server, arn string) { s.Deny(arn) }, kms.ErrDenied, "kms:Encrypt"},
		"clock ahead":      {func(s *awskmstest.Server, _ string) { s.Now = func() time.Time { return time.Now().Add(time.Hour) } }, kms.ErrDenied, "clock"},
		"wrong secret":     {func(s *awskmstest.Server, _ string) { s.Caller.SecretAccessKey = "other" }, kms.ErrDenied, "secret access key"},
		"unknown caller":   {func(s *awskmstest.Server, _ string) { s.Caller.AccessKeyID = "OTHER" }, kms.ErrDenied, "does not know"},
		"expired session": {func(s *awskmstest.Server, _ string) {
			s.Caller.CanExpire, s.Caller.Expires = true, time.Now().Add(-time.Minute)
		}, kms.ErrDenied, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			s := awskmstest.New(t, "eu-west-1")
			arn := s.CreateKey()
			m := openAt(t, s, arn)
			wrapped, err := m.Wrap(t.Context(), []byte("data key"), nil)
			if err != nil {
				t.Fatal(err)
			}
			secret := s.Caller.SecretAccessKey
			c.prepare(s, arn)
			_, wrapErr := m.Wrap(t.Context(), []byte("data key"), nil)
			_, unwrapErr := m.Unwrap(t.Context(), m.KeyID(), wrapped, nil)
			for what, err := range map[string]error{"Wrap": wrapErr, "Unwrap": unwrapErr, "Check": m.Check(t.Context())} {
				if !errors.Is(err, c.want) || errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), arn) {
					t.Errorf("%s: %v; want %v with %q and the ARN", what, err, c.want, c.says)
				}
				kmstest.Discreet(t, err, []byte(secret))
				kmstest.Discreet(t, err, []byte("data key"))
			}
		})
	}
}

func TestKeyThatDoesNotExist(t *testing.T) {
	s := awskmstest.New(t, "eu-west-1")
	m := openAt(t, s, "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")
	if err := m.Check(t.Context()); !errors.Is(err, kms.ErrKeyUnusable) || !strings.Contains(err.Error(), "does not exist") {
		t.Error(err)
	}
}

func TestFaultsThatPass(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"throttled, as KMS does it": kmstest.Answer(400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`),
		"key not available now":     kmstest.Answer(400, `{"__type":"KeyUnavailableException"}`),
		"internal error":            kmstest.Answer(500, `{"__type":"KMSInternalException"}`),
		"front end is down":         kmstest.Answer(503, `<html>`),
		"connection lost":           kmstest.HangUp,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := awskmstest.New(t, "eu-west-1")
			m := openAt(t, s, s.CreateKey())
			s.Next(fault)
			if err := m.Check(t.Context()); err != nil || s.Seen() != 3 {
				t.Errorf("%v after %d requests, want the fault to be repeated away in 3", err, s.Seen())
			}
		})
	}
}

func TestFaultsThatStay(t *testing.T) {
	throttled := kmstest.Answer(400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`)
	for name, faults := range map[string][]http.HandlerFunc{
		"throttled":            {throttled, throttled, throttled, throttled},
		"not JSON":             {kmstest.Answer(200, `<html>log in to the hotel's network</html>`)},
		"JSON of another kind": {kmstest.Answer(200, `[]`)},
		"empty object":         {kmstest.Answer(200, `{}`)},
		"for another key":      {kmstest.Answer(200, `{"KeyId":"arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000","CiphertextBlob":"AAAA","Plaintext":"AAAA"}`)},
		"error without a code": {kmstest.Answer(403, `<html>blocked by the proxy</html>`)},
		"huge":                 {kmstest.Huge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := awskmstest.New(t, "eu-west-1")
			m := openAt(t, s, s.CreateKey())
			s.Next(faults...)
			if _, err := m.Wrap(t.Context(), []byte("x"), nil); !errors.Is(err, kms.ErrUnavailable) {
				t.Errorf("Wrap: %v", err)
			}
			s.Next(faults...)
			if _, err := m.Unwrap(t.Context(), m.KeyID(), []byte("x"), nil); !errors.Is(err, kms.ErrUnavailable) {
				t.Errorf("Unwrap: %v", err)
			}
			if err := m.Check(t.Context()); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestUnknownErrorCodeIsNeitherUnavailableNorLost(t *testing.T) {
	s := awskmstest.New(t, "eu-west-1")
	m := openAt(t, s, s.CreateKey())
	s.Next(kmstest.Answer(400, `{"__type":"NewKindOfException","message":"try\nsomething"}`))
	_, err := m.Wrap(t.Context(), []byte("x"), nil)
	if err == nil || errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), "NewKindOfException try something") {
		t.Error(err)
	}
}

func TestReplicaOfAMultiRegionKeyUnwraps(t *testing.T) {
	ireland, ohio := awskmstest.New(t, "eu-west-1"), awskmstest.New(t, "us-east-2")
	here, there := ireland.CreateMultiRegionKey(ohio)
	wrapped, err := openAt(t, ireland, here).Wrap(t.Context(), []byte("data key"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := openAt(t, ohio, there).Unwrap(t.Context(), here, wrapped, []byte("aad"))
	if err != nil || string(got) != "data key" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCredentials(t *testing.T) {
	t.Run("of the environment", func(t *testing.T) {
		s := awskmstest.New(t, "eu-west-1")
		t.Setenv("AWS_ACCESS_KEY_ID", s.Caller.AccessKeyID)
		t.Setenv("AWS_SECRET_ACCESS_KEY", s.Caller.SecretAccessKey)
		t.Setenv("AWS_SESSION_TOKEN", s.Caller.SessionToken)
		m := open(t, "awskms:///"+s.CreateKey()+"?endpoint="+s.URL, awskms.Options{})
		if err := m.Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for name, c := range map[string]struct {
		err, want error
	}{
		"none":             {errors.New("no EC2 IMDS role found"), kms.ErrDenied},
		"unreachable":      {&url.Error{Op: "Get", URL: "http://169.254.169.254", Err: context.DeadlineExceeded}, kms.ErrUnavailable},
		"refused by STS":   {answered{403}, kms.ErrDenied},
		"STS out of order": {answered{503}, kms.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			m := open(t, "awskms:///arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", awskms.Options{
				Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, c.err }),
			})
			if err := m.Check(t.Context()); !errors.Is(err, c.want) || !strings.Contains(err.Error(), "aws credentials") {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

type answered struct{ status int }

func (a answered) Error() string       { return "answered" }
func (a answered) HTTPStatusCode() int { return a.status }
