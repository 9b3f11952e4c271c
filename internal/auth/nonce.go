package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

// nonces makes the nonces of Digest and notices replays. A nonce is its own
// record: the time it was made, random bytes, and a MAC over both. Memory is
// used only by nonces that a good password was proved with, and only so much.
type nonces struct {
	key      []byte
	lifetime time.Duration
	now      func() time.Time

	mu   sync.Mutex
	used *recent[nonce, *window]

	// floor is the time of the newest nonce that fell out of used. Older ones
	// that are not there may have been: they count as stale.
	floor time.Time
}

const (
	nonceBody = 16 // bytes: time and random
	nonceMAC  = 16
)

type nonce [nonceBody + nonceMAC]byte

// window is which counts of a nonce were seen: the highest, and the 64 up to
// it, since requests over several connections overtake each other.
type window struct {
	made time.Time
	top  uint32
	seen uint64 // bit i is count top-i
}

func newNonces(key []byte, lifetime time.Duration, size int, now func() time.Time) *nonces {
	n := &nonces{key: key, lifetime: lifetime, now: now}
	n.used = newRecent[nonce](size, func(w *window) {
		if w.made.After(n.floor) {
			n.floor = w.made
		}
	})
	return n
}

func (n *nonces) mac(body []byte) []byte {
	h := hmac.New(sha256.New, n.key)
	h.Write([]byte("spekeasy digest nonce\x00"))
	h.Write(body)
	return h.Sum(nil)[:nonceMAC]
}

// make returns a new nonce as text.
func (n *nonces) make() string {
	var b nonce
	binary.BigEndian.PutUint64(b[:8], uint64(n.now().UnixNano()))
	rand.Read(b[8:nonceBody])
	copy(b[nonceBody:], n.mac(b[:nonceBody]))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// use reports whether a nonce is ours, is not too old, and did not come with
// this count before; then the count is taken. A client whose nonce is not
// fresh in this sense gets a new one and need not ask its user.
func (n *nonces) use(text string, count uint32, counted bool) bool {
	var b nonce
	if base64.RawURLEncoding.DecodedLen(len(text)) != len(b) {
		return false
	}
	if _, err := base64.RawURLEncoding.Decode(b[:], []byte(text)); err != nil {
		return false
	}
	if !hmac.Equal(b[nonceBody:], n.mac(b[:nonceBody])) {
		return false
	}
	made := time.Unix(0, int64(binary.BigEndian.Uint64(b[:8])))
	if age := n.now().Sub(made); age < -n.lifetime || age > n.lifetime {
		return false
	}
	if !counted { // RFC 2069: there is nothing to tell a replay by
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	w, known := n.used.get(b)
	if !known {
		if !made.After(n.floor) {
			return false
		}
		w = &window{made: made}
		n.used.put(b, w)
	}
	return w.take(count)
}

// take reports whether a count is new, and takes it.
func (w *window) take(count uint32) bool {
	if count == 0 {
		return false
	}
	if count > w.top {
		if shift := count - w.top; shift < 64 {
			w.seen <<= shift
		} else {
			w.seen = 0
		}
		w.top = count
		w.seen |= 1
		return true
	}
	behind := w.top - count
	if behind >= 64 || w.seen>>behind&1 == 1 {
		return false
	}
	w.seen |= 1 << behind
	return true
}
