//go:build pkcs11

package pkcs11

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"spekeasy/internal/kms"
)

// session is an open session in which the user is logged in and the key has
// been found.
type session struct {
	handle p11.SessionHandle
	key    p11.ObjectHandle
}

// pool keeps sessions, which serve one call at a time.
type pool struct {
	module *p11.Ctx
	target target
	places chan struct{} // one value per call under way

	mu      sync.Mutex // held while a session is made, which logs in
	idle    []session
	closed  bool
	refused [sha256.Size]byte // hash of a PIN that is wrong
}

func newPool(module *p11.Ctx, t target) *pool {
	return &pool{module: module, target: t, places: make(chan struct{}, t.sessions)}
}

// run calls f with a session. When ctx ends first, it returns; f goes on and
// its result is forgotten.
func (p *pool) run(ctx context.Context, f func(session) ([]byte, error)) ([]byte, error) {
	type result struct {
		out []byte
		err error
	}
	if err := ended(ctx, "called"); err != nil {
		return nil, err
	}
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return nil, ended(ctx, "waiting for a session")
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-p.places }()
		s, err := p.take()
		var out []byte
		if err == nil {
			out, err = f(s)
			p.put(s, err)
		}
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		return r.out, r.err
	case <-ctx.Done():
		return nil, ended(ctx, "waiting for the HSM")
	}
}

// ended returns why a context ended: a deadline that passed is an HSM that
// does not answer, a cancellation says nothing about it.
func ended(ctx context.Context, doing string) error {
	err := ctx.Err()
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %s: %w", kms.ErrUnavailable, doing, err)
	}
	return err
}

// take returns a session that nobody uses, or makes one.
func (p *pool) take() (session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return session{}, errors.New("manager is closed")
	}
	if n := len(p.idle); n > 0 {
		s := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return s, nil
	}
	if err := p.module.Initialize(); err != nil && code(err) != p11.CKR_CRYPTOKI_ALREADY_INITIALIZED {
		return session{}, err
	}
	slot, err := p.slot()
	if err != nil {
		return session{}, err
	}
	var s session
	if s.handle, err = p.module.OpenSession(slot, p11.CKF_SERIAL_SESSION); err != nil {
		return session{}, err
	}
	if err = p.login(s.handle); err == nil {
		s.key, err = p.find(s.handle)
	}
	if err != nil {
		_ = p.module.CloseSession(s.handle) // the reason is err
		return session{}, err
	}
	return s, nil
}

// put gives a session back, unless it may be in an undefined state.
func (p *pool) put(s session, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	reusable := err == nil || errors.Is(err, kms.ErrNotOpened)
	if !reusable || p.closed {
		_ = p.module.CloseSession(s.handle) // it may be gone already
		return
	}
	p.idle = append(p.idle, s)
}

// drop gives up the sessions that nobody uses, because one was found to be
// lost. Those in use are given up by their users if they are lost too.
func (p *pool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.idle {
		_ = p.module.CloseSession(s.handle) // it may be gone already
	}
	p.idle = nil
}

func (p *pool) close() {
	p.drop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

// slot finds the token. Slots can be numbered anew after a reconnection.
func (p *pool) slot() (uint, error) {
	slots, err := p.module.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	var present []string
	for _, slot := range slots {
		info, err := p.module.GetTokenInfo(slot)
		if err != nil {
			continue // another token may be broken
		}
		if (p.target.token == "" || p.target.token == info.Label) && (p.target.serial == "" || p.target.serial == info.SerialNumber) {
			return slot, nil
		}
		present = append(present, fmt.Sprintf("%q", info.Label))
	}
	return 0, fmt.Errorf("%w: the module shows no such token; it shows: %s", kms.ErrUnavailable, strings.Join(present, ", "))
}

// login logs the user in, for all sessions of this process with the token. A
// PIN that was wrong is not tried again: after a few of those, tokens lock.
func (p *pool) login(h p11.SessionHandle) error {
	info, err := p.module.GetSessionInfo(h)
	if err != nil {
		return err
	}
	if slices.Contains([]uint{p11.CKS_RO_USER_FUNCTIONS, p11.CKS_RW_USER_FUNCTIONS}, info.State) {
		return nil
	}
	pin, err := p.target.pin()
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(pin))
	if hash == p.refused {
		return p11.Error(p11.CKR_PIN_INCORRECT)
	}
	err = p.module.Login(h, p11.CKU_USER, pin)
	switch code(err) {
	case p11.CKR_USER_ALREADY_LOGGED_IN: // by another manager, just now
		return nil
	case p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE:
		p.refused = hash
	}
	return err
}

// find returns the one key that the URI names.
func (p *pool) find(h p11.SessionHandle) (p11.ObjectHandle, error) {
	template := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
	}
	if p.target.object != "" {
		template = append(template, p11.NewAttribute(p11.CKA_LABEL, p.target.object))
	}
	if p.target.id != nil {
		template = append(template, p11.NewAttribute(p11.CKA_ID, p.target.id))
	}
	if err := p.module.FindObjectsInit(h, template); err != nil {
		return 0, err
	}
	found, _, err := p.module.FindObjects(h, 2)
	if finalErr := p.module.FindObjectsFinal(h); err == nil {
		err = finalErr
	}
	switch {
	case err != nil:
		return 0, err
	case len(found) == 0:
		return 0, fmt.Errorf("%w: the token holds no AES key of this name that the user may see", kms.ErrKeyUnusable)
	case len(found) > 1:
		return 0, fmt.Errorf("%w: the token holds several AES keys of this name; add id= to the URI", kms.ErrKeyUnusable)
	}
	return found[0], nil
}
