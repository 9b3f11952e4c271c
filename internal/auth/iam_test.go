package auth_test

import (
	"errors"
	"testing"

	"spekeasy/internal/auth"
	"spekeasy/internal/tenant"
)

// TestIAM: who API Gateway says it was, from trusted code and not from the
// request.
func TestIAM(t *testing.T) {
	iam := func(name string, arns ...string) tenant.Credential {
		return tenant.Credential{Name: name, IAM: &tenant.IAM{ARNs: arns}}
	}
	a := newAuth(t, []tenant.Settings{
		{ID: "acme", Credentials: []tenant.Credential{
			iam("role", "arn:aws:iam::123456789012:role/service/Speke"),
			iam("user", "arn:aws:iam::123456789012:user/packager"),
			iam("sessions", "arn:aws:sts::111122223333:assumed-role/Media*/session-1"),
		}},
		{ID: "other", Credentials: []tenant.Credential{iam("role", "arn:aws:iam::123456789012:role/Other", "arn:aws:sts::111122223333:assumed-role/MediaLive/*")}},
	}, auth.Options{Throttle: auth.Throttle{Burst: 1000}})
	for arn, want := range map[string]string{
		"arn:aws:iam::123456789012:role/service/Speke":                   "acme role",
		"arn:aws:sts::123456789012:assumed-role/Speke/MediaPackage":      "acme role",
		"arn:aws:iam::123456789012:user/packager":                        "acme user",
		"arn:aws:sts::111122223333:assumed-role/MediaConvert/session-1":  "acme sessions",
		"arn:aws:sts::123456789012:assumed-role/Other/x":                 "other role",
		"arn:aws:sts::111122223333:assumed-role/MediaLive/session-2":     "other role",
		"arn:aws:sts::111122223333:assumed-role/MediaLive/session-1":     "", // both tenants' lists have it
		"arn:aws:sts::111122223333:assumed-role/MediaConvert/session-12": "",
		"arn:aws:sts::111122223333:assumed-role/Media/x/session-1":       "",
		"arn:aws:sts::123456789012:assumed-role/Speke":                   "",
		"arn:aws:sts::123456789012:assumed-role/Speke/a/b":               "",
		"arn:aws:sts::999999999999:assumed-role/Speke/MediaPackage":      "",
		"arn:aws:iam::123456789012:role/Speke":                           "",
		"arn:aws:iam::123456789012:user/packager2":                       "",
		"arn:aws:iam::123456789012:user/*":                               "",
		"":                                                               "",
	} {
		r := request("/", "X-Amzn-Iam-Arn: arn:aws:iam::123456789012:user/packager")
		who, err := a.Authenticate(r.WithContext(auth.WithIAM(r.Context(), arn)), nil)
		switch {
		case want == "":
			if who != nil || !errors.Is(err, auth.ErrUnauthenticated) {
				t.Errorf("%s: %v, %v", arn, who, err)
			}
		case err != nil || who.Tenant+" "+who.Credential != want:
			t.Errorf("%s: %v, %v, want %s", arn, who, err, want)
		}
	}
	refuses(t, a, request("/", "X-Amzn-Iam-Arn: arn:aws:iam::123456789012:user/packager"))
}
