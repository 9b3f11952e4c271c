//go:build pkcs11

package pkcs11_test

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/kmstest"
	"spekeasy/internal/kms/pkcs11"
)

const (
	module = "/usr/lib/softhsm/libsofthsm2.so"
	pin    = "user-pin-5678"
	soPIN  = "so-pin-1234"
)

// hsm is a SoftHSM with one token, "films".
type hsm struct {
	ctx     *p11.Ctx
	slot    uint
	pinFile string
}

// start makes a token in a folder of the test. SoftHSM is one per process,
// so that tests with it cannot run at the same time.
func start(t *testing.T) *hsm {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	h := &hsm{ctx: p11.New(module), pinFile: filepath.Join(dir, "pin")}
	if h.ctx == nil {
		t.Fatalf("%s is not there: install the package softhsm2", module)
	}
	h.writePIN(t, pin+"\n")
	h.must(t, h.ctx.Initialize())
	t.Cleanup(func() { h.must(t, h.ctx.Finalize()) })
	slots, err := h.ctx.GetSlotList(false)
	h.must(t, err)
	h.must(t, h.ctx.InitToken(slots[0], soPIN, "films"))
	slots, err = h.ctx.GetSlotList(true) // it is in another slot now
	h.must(t, err)
	for _, slot := range slots {
		if info, err := h.ctx.GetTokenInfo(slot); err == nil && info.Label == "films" {
			h.slot = slot
		}
	}
	s, err := h.ctx.OpenSession(h.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	h.must(t, err)
	h.must(t, h.ctx.Login(s, p11.CKU_SO, soPIN))
	h.must(t, h.ctx.InitPIN(s, pin))
	h.must(t, h.ctx.Logout(s))
	h.must(t, h.ctx.CloseSession(s))
	return h
}

func (h *hsm) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *hsm) writePIN(t *testing.T, pin string) {
	t.Helper()
	h.must(t, os.WriteFile(h.pinFile, []byte(pin), 0o600))
}

// asUser runs f in a session of its own in which the user is logged in.
func (h *hsm) asUser(t *testing.T, f func(p11.SessionHandle)) {
	t.Helper()
	s, err := h.ctx.OpenSession(h.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	h.must(t, err)
	if err := h.ctx.Login(s, p11.CKU_USER, pin); err != nil && !errors.Is(err, p11.Error(p11.CKR_USER_ALREADY_LOGGED_IN)) {
		t.Fatal(err)
	}
	f(s)
	h.must(t, h.ctx.CloseSession(s))
}

// createKey makes an AES-256 key that never leaves the token; attributes are
// added to the usual ones or replace them.
func (h *hsm) createKey(t *testing.T, label, id string, attributes ...*p11.Attribute) {
	t.Helper()
	h.asUser(t, func(s p11.SessionHandle) {
		template := map[uint]*p11.Attribute{}
		for _, a := range append([]*p11.Attribute{
			p11.NewAttribute(p11.CKA_LABEL, label), p11.NewAttribute(p11.CKA_ID, id), p11.NewAttribute(p11.CKA_TOKEN, true),
			p11.NewAttribute(p11.CKA_SENSITIVE, true), p11.NewAttribute(p11.CKA_EXTRACTABLE, false), p11.NewAttribute(p11.CKA_PRIVATE, true),
			p11.NewAttribute(p11.CKA_ENCRYPT, true), p11.NewAttribute(p11.CKA_DECRYPT, true), p11.NewAttribute(p11.CKA_VALUE_LEN, 32),
		}, attributes...) {
			template[a.Type] = a
		}
		list := make([]*p11.Attribute, 0, len(template))
		for _, a := range template {
			list = append(list, a)
		}
		_, err := h.ctx.GenerateKey(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, list)
		h.must(t, err)
	})
}

func (h *hsm) destroyKey(t *testing.T, label string) {
	t.Helper()
	h.asUser(t, func(s p11.SessionHandle) {
		h.must(t, h.ctx.FindObjectsInit(s, []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, label)}))
		found, _, err := h.ctx.FindObjects(s, 10)
		h.must(t, err)
		h.must(t, h.ctx.FindObjectsFinal(s))
		for _, o := range found {
			h.must(t, h.ctx.DestroyObject(s, o))
		}
	})
}

func (h *hsm) open(t *testing.T, path string) *pkcs11.Manager {
	t.Helper()
	uri, err := url.Parse("pkcs11:" + path + "?module-path=" + module + "&pin-source=file:" + h.pinFile)
	h.must(t, err)
	m, err := pkcs11.Open(t.Context(), uri, pkcs11.Options{})
	h.must(t, err)
	t.Cleanup(func() { h.must(t, m.Close()) })
	return m
}

func TestSuite(t *testing.T) {
	h := start(t)
	h.createKey(t, "kek", "1")
	h.createKey(t, "other", "2")
	kmstest.Run(t, kmstest.Backend{
		Open:            func(t *testing.T) kms.Manager { return h.open(t, "token=films;object=kek") },
		OpenOther:       func(t *testing.T) kms.Manager { return h.open(t, "token=films;object=other") },
		OpenUnreachable: func(t *testing.T) kms.Manager { return h.open(t, "token=unplugged;object=kek") },
	})
}

func TestKeyIsFoundByLabelAndID(t *testing.T) {
	h := start(t)
	h.createKey(t, "kek", "old")
	h.createKey(t, "kek", "\x00new;")
	info, err := h.ctx.GetTokenInfo(h.slot)
	h.must(t, err)
	for path, want := range map[string]string{
		"token=films;object=kek;id=old":                           "pkcs11:token=films;object=kek;id=%6F%6C%64",
		"id=%00new%3b;token=films":                                "pkcs11:token=films;id=%00%6E%65%77%3B",
		"serial=" + info.SerialNumber + ";id=old;type=secret-key": "pkcs11:serial=" + info.SerialNumber + ";id=%6F%6C%64",
	} {
		m := h.open(t, path)
		if m.KeyID() != want {
			t.Errorf("key ID %s, want %s", m.KeyID(), want)
		}
		if err := m.Check(t.Context()); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := h.open(t, "token=films;object=kek").Check(t.Context()); !errors.Is(err, kms.ErrKeyUnusable) || !strings.Contains(err.Error(), "several") {
		t.Errorf("ambiguous label: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	const good = "?module-path=" + module + "&pin-source=env:PIN"
	for raw, want := range map[string]string{
		"pkcs11:object=kek" + good:                                                     "token or serial",
		"pkcs11:token=films" + good:                                                    "object or id",
		"pkcs11://token=films;object=kek" + good:                                       "without slashes",
		"pkcs11:token=films;object=kek;object=x" + good:                                "given twice",
		"pkcs11:token=films;object=" + good:                                            "empty",
		"pkcs11:token=films;object=kek;slot-id=1" + good:                               "slot-id",
		"pkcs11:token=films;object=kek;type=private" + good:                            "secret-key",
		"pkcs11:token=films;object=kek":                                                "module-path",
		"pkcs11:token=films;object=kek?module-path=softhsm&pin-source=env:PIN":         "absolute",
		"pkcs11:token=films;object=kek?module-path=/nonexistent.so&pin-source=env:PIN": "/nonexistent.so",
		"pkcs11:token=films;object=kek?module-path=" + module:                          "pin-source",
		"pkcs11:token=films;object=kek?module-path=" + module + "&pin-source=hunter2":  "pin-source",
		"pkcs11:token=films;object=kek?module-path=" + module + "&pin-value=hunter2":   "pin-value",
		"pkcs11:token=films;object=kek" + good + "&max-sessions=0":                     "max-sessions",
	} {
		uri, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = pkcs11.Open(t.Context(), uri, pkcs11.Options{Getenv: func(string) string { return pin }})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v, want one about %q that shows no PIN", raw, err, want)
		}
	}
}

func TestKeyThatCannotWrap(t *testing.T) {
	h := start(t)
	h.createKey(t, "no decrypt", "1", p11.NewAttribute(p11.CKA_DECRYPT, false))
	h.createKey(t, "no encrypt", "2", p11.NewAttribute(p11.CKA_ENCRYPT, false))
	h.asUser(t, func(s p11.SessionHandle) {
		_, err := h.ctx.GenerateKey(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_GENERIC_SECRET_KEY_GEN, nil)}, []*p11.Attribute{
			p11.NewAttribute(p11.CKA_LABEL, "not AES"), p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_VALUE_LEN, 32),
		})
		h.must(t, err)
	})
	for label, says := range map[string]string{"no decrypt": "CKA_DECRYPT", "no encrypt": "CKA_ENCRYPT", "not AES": "no AES key", "not there": "no AES key"} {
		err := h.open(t, "token=films;object="+url.PathEscape(label)).Check(t.Context())
		if !errors.Is(err, kms.ErrKeyUnusable) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %v with %q", label, err, kms.ErrKeyUnusable, says)
		}
	}
}

func TestMissingTokenNamesThoseThatAreThere(t *testing.T) {
	h := start(t)
	err := h.open(t, "token=unplugged;object=kek").Check(t.Context())
	if !errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), `"films"`) {
		t.Error(err)
	}
}

// Whatever happens to the sessions of this process, the next call works.
func TestReconnects(t *testing.T) {
	for name, fault := range map[string]func(*testing.T, *hsm){
		"sessions closed": func(t *testing.T, h *hsm) { h.must(t, h.ctx.CloseAllSessions(h.slot)) },
		"logged out":      func(t *testing.T, h *hsm) { h.asUser(t, func(s p11.SessionHandle) { h.must(t, h.ctx.Logout(s)) }) },
		"module restarted": func(t *testing.T, h *hsm) {
			h.must(t, h.ctx.Finalize())
			h.must(t, h.ctx.Initialize())
		},
		"module finalized by somebody": func(t *testing.T, h *hsm) { h.must(t, h.ctx.Finalize()) },
		"key replaced by another of the same name": func(t *testing.T, h *hsm) {
			h.destroyKey(t, "kek")
			h.createKey(t, "kek", "2")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t)
			h.createKey(t, "kek", "1")
			m := h.open(t, "token=films;object=kek")
			for range 3 {
				if err := m.Check(t.Context()); err != nil {
					t.Fatal(err)
				}
				fault(t, h)
				if err := m.Check(t.Context()); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			}
		})
	}
}

func TestKeyDestroyedWhileInUse(t *testing.T) {
	h := start(t)
	h.createKey(t, "kek", "1")
	m := h.open(t, "token=films;object=kek")
	wrapped, err := m.Wrap(t.Context(), []byte("data key"), nil)
	h.must(t, err)
	h.destroyKey(t, "kek")
	if _, err := m.Unwrap(t.Context(), m.KeyID(), wrapped, nil); !errors.Is(err, kms.ErrKeyUnusable) {
		t.Errorf("destroyed: %v, want %v", err, kms.ErrKeyUnusable)
	}
	h.createKey(t, "kek", "2")
	if _, err := m.Unwrap(t.Context(), m.KeyID(), wrapped, nil); !errors.Is(err, kms.ErrNotOpened) {
		t.Errorf("another key of its name: %v, want %v", err, kms.ErrNotOpened)
	}
}

func TestTwoManagersOfOneModule(t *testing.T) {
	h := start(t)
	h.createKey(t, "old", "1")
	h.createKey(t, "new", "2")
	old, next := h.open(t, "token=films;object=old"), h.open(t, "token=films;object=new")
	for _, m := range []*pkcs11.Manager{old, next} {
		if err := m.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	h.must(t, old.Close())
	if err := next.Check(t.Context()); err != nil {
		t.Errorf("after the other one was closed: %v", err)
	}
	if err := old.Check(t.Context()); err == nil {
		t.Error("a closed manager works")
	}
}

// After some wrong PINs a token locks. One typing error must not become many
// by repetition.
func TestWrongPINIsTriedOnce(t *testing.T) {
	h := start(t)
	h.createKey(t, "kek", "1")
	m := h.open(t, "token=films;object=kek")
	tries := func() int {
		t.Helper()
		info, err := h.ctx.GetTokenInfo(h.slot)
		h.must(t, err)
		if info.Flags&p11.CKF_USER_PIN_COUNT_LOW != 0 {
			return 1
		}
		return 0
	}
	h.writePIN(t, "hunter2222")
	for range 3 {
		err := m.Check(t.Context())
		if !errors.Is(err, kms.ErrDenied) || !strings.Contains(err.Error(), "PIN is wrong") {
			t.Errorf("%v, want %v", err, kms.ErrDenied)
		}
		kmstest.Discreet(t, err, []byte("hunter2222"))
	}
	if tries() != 1 {
		t.Fatal("SoftHSM saw no wrong PIN: this test shows nothing")
	}
	// A good PIN clears the flag; the wrong one, if it were sent again,
	// would set it.
	h.asUser(t, func(s p11.SessionHandle) { h.must(t, h.ctx.Logout(s)) })
	if err := m.Check(t.Context()); !errors.Is(err, kms.ErrDenied) || tries() != 0 {
		t.Errorf("%v with %d tries more, want %v without any", err, tries(), kms.ErrDenied)
	}
	h.writePIN(t, pin)
	if err := m.Check(t.Context()); err != nil {
		t.Errorf("after the PIN was corrected: %v", err)
	}
}

func TestPINSources(t *testing.T) {
	h := start(t)
	h.createKey(t, "kek", "1")
	for name, c := range map[string]struct {
		source, env string
		want        error
	}{
		"variable":       {"env:PIN", pin, nil},
		"empty variable": {"env:PIN", "", kms.ErrDenied},
		"no such file":   {"file:/nonexistent", "", kms.ErrDenied},
	} {
		uri, err := url.Parse("pkcs11:token=films;object=kek?module-path=" + module + "&pin-source=" + c.source)
		h.must(t, err)
		m, err := pkcs11.Open(t.Context(), uri, pkcs11.Options{Getenv: func(n string) string { return map[string]string{"PIN": c.env}[n] }})
		h.must(t, err)
		if err := m.Check(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		h.must(t, m.Close())
	}
}
