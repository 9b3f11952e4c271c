package tenant

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"
)

// Playback is what players of the tenant's content get: nothing, unless it is
// said here. A playback token is asked for on every call. Secrets, and what
// goes with them, are for tenants of the configuration file only.
type Playback struct {
	// ClearKey hands out content keys in clear: W3C Clear Key licenses and HLS
	// keys. It does not do so for content keys that serve a studio DRM, which
	// would protect nothing any more, unless AcceptStudioKeys says so too.
	ClearKey         bool `yaml:"clear_key,omitempty" json:"clear_key,omitzero"`
	AcceptStudioKeys bool `yaml:"accept_studio_keys,omitempty" json:"accept_studio_keys,omitzero"`

	// AcceptCredentials lets the credentials of encryptors in as well, for
	// tests. They are bound to no content and no origin.
	AcceptCredentials bool `yaml:"accept_credentials,omitempty" json:"accept_credentials,omitzero"`

	// Origins are the web origins whose players may ask, such as
	// https://tv.example.com; all if there are none. Players that are no
	// browsers send no origin.
	Origins []string `yaml:"origins,omitempty" json:"origins,omitempty"`

	// Secret signs tokens (HS256): base64 of 32 bytes or more, for tenants
	// whose own service issues them. By default there is a secret for each
	// KeyNumber, kept with the content keys; a new number ends all tokens.
	Secret    Secret `yaml:"secret,omitempty" json:"-"`
	KeyNumber int    `yaml:"key_number,omitempty" json:"-"`

	// MaxLifetime bounds tokens, from the time they begin to be valid; 24
	// hours by default.
	MaxLifetime time.Duration `yaml:"max_lifetime,omitempty" json:"-"`

	Widevine  *WidevineProxy  `yaml:"widevine,omitempty" json:"-"`
	PlayReady *PlayReadyProxy `yaml:"playready,omitempty" json:"-"`
	FairPlay  *FairPlayModule `yaml:"fairplay,omitempty" json:"-"`
}

// Format hides the secrets. Their types do so too, but fmt does not ask the
// type of a member when it is given a verb that does not fit a pointer around
// it.
func (Playback) Format(f fmt.State, _ rune) { f.Write([]byte("(playback)")) } //nolint:errcheck // fmt keeps the error

// WidevineProxy forwards license challenges to Google's service under the
// tenant's own account (D-540).
type WidevineProxy struct {
	URL      string `yaml:"url"`      // of the service, with the provider at its end
	Provider string `yaml:"provider"` // also signs the requests
	AESKey   Secret `yaml:"aes_key"`  // of the signature: 64 hexadecimal digits
	AESIV    Secret `yaml:"aes_iv"`   // 32 hexadecimal digits
	Policy   string `yaml:"policy,omitempty"`

	// SecurityLevel and HDCP are demanded of each device for every key
	// (D-541); 1 and HDCP_NONE by default.
	SecurityLevel int    `yaml:"security_level,omitempty"`
	HDCP          string `yaml:"hdcp,omitempty"`

	// Overrides are put into every request as they are, for members of it
	// that only the account's documents tell (D-543).
	Overrides map[string]any `yaml:"overrides,omitempty"`
}

// PlayReadyProxy forwards license challenges, which stay opaque, to the
// tenant's PlayReady license server (D-606).
type PlayReadyProxy struct {
	URL     string            `yaml:"url"`
	Headers map[string]Secret `yaml:"headers,omitempty"` // such as Authorization
}

// FairPlayModule is the tenant's Key Security Module, which makes licenses
// (CKC) with Apple's own code outside of this server (D-313).
type FairPlayModule struct {
	URL         string `yaml:"url"`
	Token       Secret `yaml:"token,omitempty"`         // sent as Authorization: Bearer
	Certificate string `yaml:"certificate,omitempty"`   // the application certificate: base64 of DER
	Lease       int    `yaml:"lease_seconds,omitempty"` // passed on
	Rental      int    `yaml:"rental_seconds,omitempty"`
	HDCP        string `yaml:"hdcp,omitempty"` // passed on: NONE, TYPE-0, TYPE-1
}

// DefaultTokenLifetime bounds playback tokens where nothing else is said.
const DefaultTokenLifetime = 24 * time.Hour

// Lifetime is the longest that a token may be valid.
func (p *Playback) Lifetime() time.Duration {
	if p.MaxLifetime > 0 {
		return p.MaxLifetime
	}
	return DefaultTokenLifetime
}

// SecretBytes is the secret of the settings, nil when there is none.
func (p *Playback) SecretBytes() ([]byte, error) {
	if p.Secret == "" {
		return nil, nil
	}
	b, err := base64.StdEncoding.DecodeString(string(p.Secret))
	if err != nil || len(b) < 32 {
		return nil, errors.New("secret: not base64 of 32 bytes or more")
	}
	return b, nil
}

func (p *Playback) check() error {
	if p == nil {
		return nil
	}
	if _, err := p.SecretBytes(); err != nil {
		return err
	}
	switch {
	case p.KeyNumber < 0:
		return errors.New("key_number: must not be negative")
	case p.KeyNumber > 0 && p.Secret != "":
		return errors.New("key_number: there is none beside a secret")
	case p.MaxLifetime < 0:
		return errors.New("max_lifetime: must not be negative")
	case p.AcceptStudioKeys && !p.ClearKey:
		return errors.New("accept_studio_keys: means nothing without clear_key")
	}
	for _, origin := range p.Origins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
			return fmt.Errorf("origins: %q is not an origin such as https://tv.example.com", origin)
		}
	}
	if err := p.Widevine.check(); err != nil {
		return fmt.Errorf("widevine: %w", err)
	}
	if p.PlayReady != nil {
		if err := checkService(p.PlayReady.URL); err != nil {
			return fmt.Errorf("playready: %w", err)
		}
		for name := range p.PlayReady.Headers {
			if !isToken(name) {
				return fmt.Errorf("playready: headers: %q is not the name of a header", name)
			}
		}
	}
	if err := p.FairPlay.check(); err != nil {
		return fmt.Errorf("fairplay: %w", err)
	}
	return nil
}

// Signature returns key and IV of the requests' signature.
func (w *WidevineProxy) Signature() (key, iv []byte, err error) {
	if key, err = hex.DecodeString(string(w.AESKey)); err != nil || len(key) != 32 {
		return nil, nil, errors.New("aes_key: not 64 hexadecimal digits")
	}
	if iv, err = hex.DecodeString(string(w.AESIV)); err != nil || len(iv) != 16 {
		return nil, nil, errors.New("aes_iv: not 32 hexadecimal digits")
	}
	return key, iv, nil
}

func (w *WidevineProxy) check() error {
	if w == nil {
		return nil
	}
	if err := checkService(w.URL); err != nil {
		return err
	}
	if _, _, err := w.Signature(); err != nil {
		return err
	}
	switch {
	case w.Provider == "":
		return errors.New("provider: required")
	case w.SecurityLevel < 0 || w.SecurityLevel > 5:
		return errors.New("security_level: 1 to 5")
	}
	return nil
}

func (f *FairPlayModule) check() error {
	if f == nil {
		return nil
	}
	if err := checkService(f.URL); err != nil {
		return err
	}
	if _, err := base64.StdEncoding.DecodeString(f.Certificate); err != nil {
		return errors.New("certificate: not base64")
	}
	switch {
	case f.Lease < 0 || f.Rental < 0:
		return errors.New("lease_seconds, rental_seconds: must not be negative")
	case f.HDCP != "" && !slices.Contains(hdcpLevels, f.HDCP):
		return fmt.Errorf("hdcp: %q is none of %v", f.HDCP, hdcpLevels)
	}
	return nil
}

// checkService judges the URL of a service that is sent secrets.
func checkService(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return errors.New("url: an absolute URL is required")
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || !ip.IsLoopback()) {
		return errors.New("url: https is required; http is for loopback addresses only")
	}
	return nil
}

// PlaybackSecrets is the name, in the keystore, of what playback tokens are
// signed with. It is not a tenant, so that no encryptor is ever given it.
const PlaybackSecrets = "spekeasy.playback"

// clearSystems are the DRM systems whose players get content keys in clear
// anyway: Clear Key, the common PSSH of the W3C, and plain HLS.
var clearSystems = []string{
	"1077efec-c0b2-4d02-ace3-3c1e52e2fb4b", "e2719d58-a985-b3c9-781a-b030af78d30e", "3ea8778f-7742-4bf9-b18b-e834b2acbd47",
	"be58615b-19c4-4684-88b3-c8c57e99e957", "81376844-f976-481e-a84e-cc25d39b0b33",
}

// MayBeClear reports whether the content key may go to players in clear, by
// the DRM systems that encryptors asked for with it. A key that none has asked
// for, an imported one, may serve any.
func (p *Playback) MayBeClear(systems []string) bool {
	if p == nil || !p.ClearKey {
		return false
	}
	if p.AcceptStudioKeys {
		return true
	}
	return len(systems) > 0 && !slices.ContainsFunc(systems, func(id string) bool { return !slices.Contains(clearSystems, id) })
}
