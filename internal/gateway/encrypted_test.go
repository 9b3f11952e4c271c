package gateway_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"testing"
	"time"

	"spekeasy/encryptor"
	"spekeasy/internal/gateway"
	"spekeasy/internal/tenant"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
	"spekeasy/speke"
)

func recipient(t testing.TB) *encryptor.Recipient {
	t.Helper()
	r, err := encryptor.NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pemOf returns a recipient's certificate and key as an operator has them.
func pemOf(t testing.TB, r *encryptor.Recipient) upstream.KeyPair {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(r.Key)
	if err != nil {
		t.Fatal(err)
	}
	return upstream.KeyPair{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate.Raw})),
		Key:         upstream.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	}
}

// TestContentKeyEncryption: in each way, the encryptor opens the vendor's keys
// with its own certificate's key, and finds nothing wrong (SX-CKE-03 to -15,
// SX-GW-04).
func TestContentKeyEncryption(t *testing.T) {
	packager, ours := recipient(t), recipient(t)
	for name, c := range map[string]struct {
		vendor     string
		up         func(*upstream.Settings)
		registered *encryptor.Recipient
		v1         bool
		clear      bool // the encryptor wants them in clear
		sealedUp   bool // they come encrypted from the vendor
		relayed    bool
	}{
		"KeyOS v2 passes the packager's certificate on": {vendor: vendorsim.KeyOS, registered: packager, sealedUp: true, relayed: true},
		"KeyOS v1 passes the packager's certificate on": {vendor: vendorsim.KeyOS, registered: packager, v1: true, sealedUp: true},
		"generic passes and mends": {vendor: vendorsim.Generic, sealedUp: true, up: func(u *upstream.Settings) {
			u.SPEKE = "2.0"
			u.Tracks = map[string]string{"VIDEO": "HD"}
		}},
		"KeyOS encrypts to us, and we to the packager": {vendor: vendorsim.KeyOS, registered: ours, sealedUp: true, up: func(u *upstream.Settings) {
			u.CEK, u.Recipient = upstream.CEKReEncrypt, pemOf(t, ours)
		}},
		"KeyOS encrypts to us for a packager that wants clear keys": {vendor: vendorsim.KeyOS, registered: ours, sealedUp: true, clear: true, up: func(u *upstream.Settings) {
			u.CEK, u.Recipient = upstream.CEKReEncrypt, pemOf(t, ours)
		}},
		"PallyCon cannot, we do":             {vendor: vendorsim.PallyCon},
		"Axinom is asked in clear":           {vendor: vendorsim.Axinom, up: func(u *upstream.Settings) { u.CEK = upstream.CEKTerminate }},
		"Axinom is asked in clear and in v1": {vendor: vendorsim.Axinom, up: func(u *upstream.Settings) { u.CEK, u.SPEKE = upstream.CEKTerminate, "1.0" }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			o := vendorsim.Options{}
			if c.registered != nil {
				o.Registered = []*x509.Certificate{c.registered.Certificate}
			}
			s := startSim(t, c.vendor, o)
			tn := b.tenant(s.upstream(t, func(u *upstream.Settings) {
				if c.up != nil {
					c.up(u)
				}
			}))
			ask := twoKeys
			if c.v1 {
				ask = encryptor.Options{Service: encryptor.MediaConvert, Version: encryptor.V10}
			}
			if !c.clear {
				ask.Recipients = []*encryptor.Recipient{packager}
			}
			a := b.must(tn, build(t, ask))
			if a.read.Encrypted == c.clear || (len(a.Recipients) == 1) == c.clear {
				t.Errorf("encrypted %t, recipients %v", a.read.Encrypted, a.Recipients)
			}
			for _, k := range a.read.Keys {
				want, _, err := s.keys.Make("vendorsim", k.KID)
				if err != nil {
					t.Fatal(err)
				}
				if !k.HasValue || c.vendor != vendorsim.PallyCon && k.Value != want {
					t.Errorf("key ID %s: has value %t, or another one", k.KID, k.HasValue)
				}
			}
			if up := string(s.requests()[0].Body); (c.sealedUp) != containsText(up, "DeliveryData") {
				t.Error(up)
			}
			if got := b.last().Calls[0].Relayed; got != c.relayed && c.vendor != vendorsim.KeyOS {
				t.Errorf("relayed %t", got)
			}
		})
	}
}

// TestNoEncryption: what cannot be encrypted is an error, never in clear
// (SX-CKE-15).
func TestNoEncryption(t *testing.T) {
	packager := recipient(t)
	ask := twoKeys
	ask.Recipients = []*encryptor.Recipient{packager}
	refused := func(name string, b *bench, tn *tenant.Tenant, status int, text string) {
		t.Helper()
		_, err := b.ask(tn, build(t, ask))
		var refusal *speke.Error
		var fault *gateway.Fault
		if !errors.As(err, &refusal) || !errors.As(err, &fault) || refusal.Status != status || !containsText(refusal.Text, text) {
			t.Errorf("%s: %v", name, err)
		}
		if len(b.bound("movie-1")) != 0 {
			t.Errorf("%s: recorded", name)
		}
	}
	b := newBench(t)
	s := startSim(t, vendorsim.Generic, vendorsim.Options{})
	refused("by setting", b, b.tenant(s.upstream(t, func(u *upstream.Settings) { u.CEK = upstream.CEKRefuse })), 422, "does not encrypt")
	refused("asked key by key", b, b.tenant(s.upstream(t, func(u *upstream.Settings) { u.SPEKE = "1.0" })), 422, "cek terminate")

	// A vendor that does not hear what it is asked for.
	deaf := startSim(t, vendorsim.PallyCon, vendorsim.Options{})
	refused("answered in clear", b, b.tenant(deaf.upstream(t, func(u *upstream.Settings) { u.CEK = upstream.CEKPass })), 502, "")
}
