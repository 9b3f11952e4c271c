package secretsmanager_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"spekeasy/internal/secretsmanager"
)

const arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!cluster-AbCdEf"

// server answers the calls one after the other, and the last answer for ever.
func server(t *testing.T, calls *atomic.Int64, answers ...func(w http.ResponseWriter)) *secretsmanager.Set {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if auth := r.Header.Get("Authorization"); !strings.Contains(auth, "/eu-west-1/secretsmanager/aws4_request") {
			t.Errorf("signed for %s", auth)
		}
		n := int(calls.Add(1))
		answers[min(n, len(answers))-1](w)
	}))
	t.Cleanup(srv.Close)
	return secretsmanager.New(secretsmanager.Options{
		Endpoint: srv.URL,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDTEST", SecretAccessKey: "secret"}, nil
		}),
	}).NewSet()
}

func says(status int, text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(status)
		io.WriteString(w, text)
	}
}

func TestResolve(t *testing.T) {
	const object = `{"SecretString":"{\"host\":\"db\",\"port\":5432,\"password\":\"hide-me\",\"nested\":{\"a\":1},\"none\":null}","VersionId":"v"}`
	for name, c := range map[string]struct {
		answer     func(http.ResponseWriter)
		ref, value string
		err        string
		calls      int
	}{
		"the whole secret":    {says(200, `{"SecretString":"hide-me"}`), arn, "hide-me", "", 1},
		"a field":             {says(200, object), arn + "#password", "hide-me", "", 1},
		"a number":            {says(200, object), arn + "#port", "5432", "", 1},
		"no such field":       {says(200, object), arn + "#user", "", `it has no field "user"`, 1},
		"an object":           {says(200, object), arn + "#nested", "", `its field "nested" is neither text nor a number`, 1},
		"null":                {says(200, object), arn + "#none", "", `its field "none" is neither text nor a number`, 1},
		"a field of a text":   {says(200, `{"SecretString":"hide-me"}`), arn + "#a", "", "not a JSON object", 1},
		"binary":              {says(200, `{"SecretBinary":"aGlkZS1tZQ=="}`), arn, "", "binary", 1},
		"not permitted":       {says(400, `{"__type":"AccessDeniedException","Message":"no"}`), arn, "", "AccessDeniedException: no", 1},
		"throttled":           {says(400, `{"__type":"ThrottlingException","Message":"slower"}`), arn, "", "ThrottlingException: slower", 3},
		"broken":              {says(502, `<html>hide-me</html>`), arn, "", "answered status 502 with something that is not JSON", 3},
		"something else":      {says(200, `hide-me`), arn, "", "answered status 200 with something that is not JSON", 1},
		"a name":              {says(200, object), "keys/encoder", "", "not the ARN of a secret", 0},
		"an ARN of something": {says(200, object), "arn:aws:kms:eu-west-1:111122223333:key/1", "", "not the ARN of a secret", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			got, err := server(t, &calls, c.answer).Resolve(t.Context(), c.ref)
			if got != c.value || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "hide-me") {
				t.Errorf("%v holds the secret", err)
			}
			if n := int(calls.Load()); n != c.calls {
				t.Errorf("%d calls, want %d", n, c.calls)
			}
		})
	}
}

func TestChanged(t *testing.T) {
	var calls atomic.Int64
	s := server(t, &calls,
		says(200, `{"SecretString":"one","VersionId":"1"}`), says(200, `{"SecretString":"one","VersionId":"1"}`),
		says(200, `{"SecretString":"two","VersionId":"2"}`), says(400, `{"__type":"ResourceNotFoundException"}`))
	if !s.Empty() {
		t.Error("a new set is not empty")
	}
	for range 2 {
		if v, err := s.Resolve(t.Context(), arn); v != "one" || err != nil {
			t.Fatal(v, err)
		}
	}
	if n := calls.Load(); s.Empty() || n != 1 {
		t.Errorf("%d calls", n)
	}
	if changed, err := s.Changed(t.Context()); changed || err != nil {
		t.Error(changed, err)
	}
	if changed, err := s.Changed(t.Context()); !changed || err != nil {
		t.Error(changed, err)
	}
	if changed, err := s.Changed(t.Context()); changed || err == nil {
		t.Error("a secret that is gone has not changed, it cannot be found out", err)
	}
}

// Whoever gives up need not wait for the pauses between attempts.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var calls atomic.Int64
	s := server(t, &calls, func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, "{}")
		cancel()
	})
	if _, err := s.Resolve(ctx, arn); err == nil || calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Error(ctx.Err())
	}
}
