package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"spekeasy/adminapi"
	"spekeasy/internal/tenant"
)

// The types of this API and those of package tenant have the same form in
// JSON, except that only those of the API show secrets.

func convert(to, from any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(to)
}

// settingsOf returns the settings that a client has sent, with the secrets of
// those before, nil for none, where it keeps them.
func settingsOf(id string, in *adminapi.TenantSettings, before *tenant.Settings) (s tenant.Settings, err error) {
	public := *in
	public.KeySource.Seed = ""
	if err = convert(&s, &public); err == nil {
		s.ID, s.KeySource.Seed = id, string(in.KeySource.Seed)
		err = s.Keep(before)
	}
	if err != nil {
		return s, problem(http.StatusUnprocessableEntity, "settings: "+err.Error())
	}
	return s, nil
}

// settingsFor returns settings as clients see them: secrets are hidden.
func settingsFor(s *tenant.Settings) (out adminapi.TenantSettings, err error) {
	public := *s
	public.ID = ""
	b, err := json.Marshal(&public)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return out, fmt.Errorf("settings of tenant %s: %w", s.ID, err)
	}
	return out, nil
}

// credentialOf returns the credential that a client has sent.
func credentialOf(in *adminapi.Credential) (*tenant.Credential, error) {
	c := &tenant.Credential{}
	secret := in.Secret()
	public, err := copyOf(in)
	if err != nil {
		return nil, err
	}
	public.SetSecret("")
	if s := public.WidevineSigner; s != nil {
		s.AESKey, s.AESIV = "", ""
	}
	if err := convert(c, public); err != nil {
		return nil, fmt.Errorf("credential %s: %w", in.Name, err)
	}
	if s := in.WidevineSigner; s != nil {
		c.WidevineSigner.AESKey, c.WidevineSigner.AESIV = tenant.Secret(s.AESKey), tenant.Secret(s.AESIV)
	}
	if p := c.Plain(); p != nil {
		*p = tenant.Secret(secret)
	}
	return c, nil
}

func copyOf(in *adminapi.Credential) (*adminapi.Credential, error) {
	out := &adminapi.Credential{}
	return out, convert(out, in)
}

// credentialFor returns a credential as clients see it, with a secret that was
// just made.
func credentialFor(c *tenant.Credential, secret tenant.Secret) (adminapi.Credential, error) {
	var out adminapi.Credential
	if err := convert(&out, c); err != nil {
		return out, fmt.Errorf("credential %s: %w", c.Name, err)
	}
	out.SetSecret(adminapi.Secret(secret))
	return out, nil
}

// state says whether a credential is good now, and for how many whole days.
func state(c *tenant.Credential, now time.Time) (state string, daysLeft *int) {
	from, until, err := c.Validity()
	state = adminapi.StateActive
	switch {
	case err != nil || !until.IsZero() && !now.Before(until):
		state = adminapi.StateExpired
	case now.Before(from):
		state = adminapi.StatePending
	}
	if err == nil && !until.IsZero() {
		days := max(0, int(until.Sub(now)/(24*time.Hour)))
		daysLeft = &days
	}
	return state, daysLeft
}
