package tenant

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Webhook is an address that is told of each new use of a content key.
type Webhook struct {
	Name   string `yaml:"name" json:"name"` // unique within the tenant; how far it has come is kept by it
	URL    string `yaml:"url" json:"url"`   // https, or http on this machine
	Secret Secret `yaml:"secret" json:"secret"`

	// FormerSecret signs too, while the receiver changes to the new one.
	FormerSecret Secret `yaml:"former_secret,omitempty" json:"former_secret,omitempty"`
}

// Format hides the secrets, as that of [Credential] does.
func (w Webhook) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "(webhook %s)", w.Name) }

// secretPrefix begins a secret of Standard Webhooks.
const secretPrefix = "whsec_"

// The bytes that such a secret may have.
const (
	minWebhookSecret = 24
	maxWebhookSecret = 64
)

// Secrets returns what signs, the present secret first.
func (w *Webhook) Secrets() ([][]byte, error) {
	var all [][]byte
	for _, text := range []Secret{w.Secret, w.FormerSecret} {
		if text == "" && len(all) > 0 {
			continue
		}
		encoded, ok := strings.CutPrefix(string(text), secretPrefix)
		b, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(b) < minWebhookSecret || len(b) > maxWebhookSecret {
			return nil, fmt.Errorf("secret: must be %s and the base64 of %d to %d random bytes", secretPrefix, minWebhookSecret, maxWebhookSecret)
		}
		all = append(all, b)
	}
	return all, nil
}

func (w *Webhook) check() error {
	if w.Name == "" || len(w.Name) > 64 || strings.Trim(w.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		return errors.New("name: must be 1 to 64 letters, digits, dots, dashes and underscores")
	}
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("url: must begin with https://")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("url: must begin with https://, unless it is on this machine")
	}
	_, err = w.Secrets()
	return err
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkWebhooks checks the webhooks of a tenant.
func checkWebhooks(all []Webhook) error {
	seen := make(map[string]bool)
	for i := range all {
		err := all[i].check()
		if err == nil && seen[all[i].Name] {
			err = errors.New("the name occurs twice")
		}
		if err != nil {
			return fmt.Errorf("webhooks[%d] (%s): %w", i, all[i].Name, err)
		}
		seen[all[i].Name] = true
	}
	return nil
}
