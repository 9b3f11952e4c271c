// Package kmstest holds the behaviour that every key manager must show and
// the faults that its tests inject.
package kmstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/internal/kms"
)

// Backend is one way to keep a KEK.
type Backend struct {
	// Open returns a manager for a KEK; every call returns one for the same
	// KEK.
	Open func(*testing.T) kms.Manager

	// OpenOther returns a manager for another KEK of the same service.
	OpenOther func(*testing.T) kms.Manager

	// OpenUnreachable returns a manager whose service cannot be reached. It
	// is nil for a backend that keeps its KEK in this process.
	OpenUnreachable func(*testing.T) kms.Manager

	// Samples limits how many places of a wrapped key are tampered with, for
	// backends that are slow; 0 is all of them.
	Samples int
}

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	t.Run("what was wrapped is unwrapped", b.roundTrip)
	t.Run("sizes outside the contract are refused", b.sizes)
	t.Run("wrapping twice gives different bytes", b.randomised)
	t.Run("another manager of the same KEK unwraps", b.secondProcess)
	t.Run("other associated data is refused", b.otherAAD)
	t.Run("cut and lengthened wrapped keys are refused", b.lengths)
	t.Run("every altered byte is refused", b.altered)
	t.Run("another KEK's wrapped key is refused", b.otherKEK)
	t.Run("a cancelled call ends as cancelled", b.cancelled)
	t.Run("32 callers at once", b.concurrent)
	t.Run("check", b.check)
	if b.OpenUnreachable != nil {
		t.Run("an unreachable service is unavailable", b.unreachable)
	}
}

var (
	secret  = []byte("0123456789abcdef-kmstest-secret.")
	someAAD = []byte("tenant\x00kid\xff\x00purpose")
)

func wrap(t *testing.T, m kms.Manager, plaintext, aad []byte) []byte {
	t.Helper()
	w, err := m.Wrap(t.Context(), plaintext, aad)
	if err != nil {
		t.Fatalf("Wrap: %v", err)
	}
	return w
}

// refuses checks that an error is a refusal and gives nothing away.
func refuses(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	if errors.Is(err, kms.ErrUnavailable) {
		t.Errorf("refusal reported as unavailable: %v", err)
	}
	Discreet(t, err, secret)
}

// Discreet fails the test when an error shows a secret: as it is, in
// hexadecimal, or in base64.
func Discreet(t *testing.T, err error, secret []byte) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for _, s := range []string{string(secret), hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret)} {
		if strings.Contains(text, s) {
			t.Errorf("error shows a secret: %v", err)
		}
	}
}

func (b Backend) roundTrip(t *testing.T) {
	m := b.Open(t)
	large := make([]byte, kms.MaxPlaintext)
	rand.Read(large)
	for name, c := range map[string]struct{ plaintext, aad []byte }{
		"a data key":                  {secret, someAAD},
		"one byte":                    {[]byte{0}, someAAD},
		"the largest plaintext":       {large, someAAD},
		"nil associated data":         {secret, nil},
		"empty associated data":       {secret, []byte{}},
		"a kilobyte of aad":           {secret, bytes.Repeat([]byte{0x00, 0xff}, 512)},
		"aad of one zero byte":        {secret, []byte{0}},
		"plaintext equal to the aad":  {secret, secret},
		"bytes that are not a string": {[]byte{0xff, 0xfe, 0x00, 0x80}, []byte{0x80, 0x00, 0xff}},
	} {
		before := bytes.Clone(c.plaintext)
		w := wrap(t, m, c.plaintext, c.aad)
		if !bytes.Equal(c.plaintext, before) {
			t.Errorf("%s: Wrap changed its argument", name)
		}
		if len(c.plaintext) > 8 && bytes.Contains(w, c.plaintext) {
			t.Errorf("%s: wrapped key contains the plaintext", name)
		}
		stored := bytes.Clone(w)
		got, err := m.Unwrap(t.Context(), m.KeyID(), w, c.aad)
		if err != nil {
			t.Errorf("%s: Unwrap: %v", name, err)
		} else if !bytes.Equal(got, c.plaintext) {
			t.Errorf("%s: unwrapped %d bytes that differ from the %d wrapped", name, len(got), len(c.plaintext))
		}
		if !bytes.Equal(w, stored) {
			t.Errorf("%s: Unwrap changed its argument", name)
		}
	}
}

func (b Backend) sizes(t *testing.T) {
	m := b.Open(t)
	for _, n := range []int{0, kms.MaxPlaintext + 1} {
		if _, err := m.Wrap(t.Context(), make([]byte, n), someAAD); err == nil {
			t.Errorf("wrapped %d bytes", n)
		}
	}
}

func (b Backend) randomised(t *testing.T) {
	m := b.Open(t)
	if bytes.Equal(wrap(t, m, secret, someAAD), wrap(t, m, secret, someAAD)) {
		t.Error("same bytes twice: an observer sees which keys are equal")
	}
}

func (b Backend) secondProcess(t *testing.T) {
	one, two := b.Open(t), b.Open(t)
	if one.KeyID() == "" || one.KeyID() != two.KeyID() {
		t.Fatalf("key IDs %q and %q for one KEK", one.KeyID(), two.KeyID())
	}
	got, err := two.Unwrap(t.Context(), one.KeyID(), wrap(t, one, secret, someAAD), someAAD)
	if err != nil || !bytes.Equal(got, secret) {
		t.Errorf("Unwrap: %v", err)
	}
}

func (b Backend) otherAAD(t *testing.T) {
	m := b.Open(t)
	bound, unbound := wrap(t, m, secret, someAAD), wrap(t, m, secret, nil)
	for name, c := range map[string]struct{ wrapped, aad []byte }{
		"none instead of some":    {bound, nil},
		"some instead of none":    {unbound, someAAD},
		"one byte more":           {bound, append(bytes.Clone(someAAD), 0)},
		"one byte less":           {bound, someAAD[:len(someAAD)-1]},
		"one bit differs":         {bound, append([]byte{someAAD[0] ^ 1}, someAAD[1:]...)},
		"differs only in case":    {bound, bytes.ToUpper(someAAD)},
		"a zero byte before none": {unbound, []byte{0}},
	} {
		_, err := m.Unwrap(t.Context(), m.KeyID(), c.wrapped, c.aad)
		refuses(t, err)
		if !errors.Is(err, kms.ErrNotOpened) {
			t.Errorf("%s: %v, want %v", name, err, kms.ErrNotOpened)
		}
	}
}

func (b Backend) lengths(t *testing.T) {
	m := b.Open(t)
	w := wrap(t, m, secret, someAAD)
	for _, n := range []int{0, 1, 2, 12, 13, 16, 28, 29, len(w) / 2, len(w) - 16, len(w) - 1} {
		_, err := m.Unwrap(t.Context(), m.KeyID(), w[:n], someAAD)
		if err == nil {
			t.Errorf("accepted the first %d of %d bytes", n, len(w))
			continue
		}
		refuses(t, err)
	}
	for name, longer := range map[string][]byte{
		"zero byte":  append(bytes.Clone(w), 0),
		"line break": append(bytes.Clone(w), '\n'),
		"itself":     append(bytes.Clone(w), w...),
	} {
		if _, err := m.Unwrap(t.Context(), m.KeyID(), longer, someAAD); err == nil {
			t.Errorf("accepted a wrapped key followed by a %s", name)
		} else {
			refuses(t, err)
		}
	}
}

func (b Backend) altered(t *testing.T) {
	m := b.Open(t)
	try := func(w []byte, i int, bits ...byte) {
		t.Helper()
		for _, bit := range bits {
			bad := bytes.Clone(w)
			bad[i] ^= bit
			_, err := m.Unwrap(t.Context(), m.KeyID(), bad, someAAD)
			if err == nil {
				t.Fatalf("accepted with byte %d of %d changed by %#x", i, len(w), bit)
			}
			refuses(t, err)
		}
	}
	w := wrap(t, m, secret, someAAD)
	step := 1
	if b.Samples > 0 {
		step = max(1, len(w)/b.Samples)
	}
	for i := 0; i < len(w); i += step {
		try(w, i, 0x01, 0x80)
	}
	// Where the wrapped key is text, its end can have bits that mean nothing.
	for n := range 3 {
		w := wrap(t, m, secret[n:], someAAD)
		for i := len(w) - 4; i < len(w); i++ {
			try(w, i, 0x01, 0x02, 0x04, 0x08)
		}
	}
}

func (b Backend) otherKEK(t *testing.T) {
	m, other := b.Open(t), b.OpenOther(t)
	if m.KeyID() == other.KeyID() {
		t.Fatalf("two KEKs are called %q", m.KeyID())
	}
	w := wrap(t, other, secret, someAAD)
	_, err := m.Unwrap(t.Context(), other.KeyID(), w, someAAD)
	refuses(t, err)
	if !errors.Is(err, kms.ErrOtherKey) {
		t.Errorf("%v, want %v", err, kms.ErrOtherKey)
	}
	_, err = m.Unwrap(t.Context(), m.KeyID(), w, someAAD)
	refuses(t, err)
	_, err = m.Unwrap(t.Context(), "", w, someAAD)
	refuses(t, err)
}

func (b Backend) cancelled(t *testing.T) {
	m := b.Open(t)
	w := wrap(t, m, secret, someAAD)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	_, wrapErr := m.Wrap(ctx, secret, someAAD)
	_, unwrapErr := m.Unwrap(ctx, m.KeyID(), w, someAAD)
	for _, err := range []error{wrapErr, unwrapErr} {
		if !errors.Is(err, context.Canceled) || errors.Is(err, kms.ErrUnavailable) {
			t.Errorf("%v, want only %v", err, context.Canceled)
		}
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v to notice", d)
	}
}

func (b Backend) concurrent(t *testing.T) {
	m := b.Open(t)
	var group sync.WaitGroup
	for i := range 32 {
		group.Go(func() {
			plaintext, aad := make([]byte, 32), []byte{byte(i)}
			rand.Read(plaintext)
			w, err := m.Wrap(t.Context(), plaintext, aad)
			if err != nil {
				t.Errorf("Wrap: %v", err)
				return
			}
			got, err := m.Unwrap(t.Context(), m.KeyID(), w, aad)
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("Unwrap: %v, equal: %t", err, bytes.Equal(got, plaintext))
			}
		})
	}
	group.Wait()
}

func (b Backend) check(t *testing.T) {
	if err := b.Open(t).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func (b Backend) unreachable(t *testing.T) {
	m := b.OpenUnreachable(t)
	_, wrapErr := m.Wrap(t.Context(), secret, someAAD)
	_, unwrapErr := m.Unwrap(t.Context(), m.KeyID(), wrap(t, b.Open(t), secret, someAAD), someAAD)
	for what, err := range map[string]error{"Wrap": wrapErr, "Unwrap": unwrapErr, "Check": m.Check(t.Context())} {
		if !errors.Is(err, kms.ErrUnavailable) {
			t.Errorf("%s: %v, want %v", what, err, kms.ErrUnavailable)
		}
		if errors.Is(err, kms.ErrDenied) || errors.Is(err, kms.ErrKeyUnusable) || errors.Is(err, kms.ErrNotOpened) {
			t.Errorf("%s: %v is also a refusal", what, err)
		}
		Discreet(t, err, secret)
	}
}
