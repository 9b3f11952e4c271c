package keyprovider

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"spekeasy/cpix"
	"spekeasy/speke"
)

// maxRecipientSets bounds the sets of recipients that are remembered.
const maxRecipientSets = 1024

// Sealers keeps what was made for a tenant's set of recipients: the parsed
// certificates, and for a short time the document key and MAC key with their
// RSA wrapping. The recipients can open all documents of that time anyway, so
// that nobody learns more, and RSA leaves the hot path (SX-CKE-04).
type Sealers struct {
	random io.Reader
	now    func() time.Time
	reuse  time.Duration // how long a sealer serves; 0 makes one per document

	mu   sync.Mutex
	sets map[recipientSet]*sealerEntry
}

// NewSealers returns sealers that serve for the given time; 0 makes one for
// each document. random is the source of document keys and IVs.
func NewSealers(random io.Reader, now func() time.Time, reuse time.Duration) *Sealers {
	return &Sealers{random: random, now: now, reuse: reuse, sets: make(map[recipientSet]*sealerEntry)}
}

// recipientSet identifies a tenant and exactly these certificates in exactly
// this order.
type recipientSet [sha256.Size]byte

type sealerEntry struct {
	certs   []*x509.Certificate
	sealer  *cpix.Sealer
	expires time.Time
}

// Get returns a sealer for the recipients of the request, or nil when it asks
// for clear keys. check judges the certificates at every use.
func (s *Sealers) Get(tenant string, req *speke.Request, check func(*x509.Certificate) error) (*cpix.Sealer, error) {
	if !req.Encrypted() {
		return nil, nil
	}
	id := setOf(tenant, req)
	s.mu.Lock()
	entry := s.sets[id]
	s.mu.Unlock()
	if entry == nil {
		certs, err := req.Recipients()
		if err != nil {
			return nil, err
		}
		entry = &sealerEntry{certs: certs}
	}
	for _, cert := range entry.certs {
		if err := check(cert); err != nil {
			return nil, speke.CertificateError(err)
		}
	}
	now := s.now()
	if entry.sealer != nil && now.Before(entry.expires) {
		return entry.sealer, nil
	}
	sealer, err := cpix.NewSealer(s.random, entry.certs)
	if err != nil {
		return nil, err
	}
	next := &sealerEntry{certs: entry.certs}
	if s.reuse > 0 {
		next.sealer, next.expires = sealer, now.Add(s.reuse)
	}
	s.put(id, next, now)
	return sealer, nil
}

func (s *Sealers) put(id recipientSet, entry *sealerEntry, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sets) >= maxRecipientSets {
		for other, e := range s.sets {
			if len(s.sets) < maxRecipientSets/2 {
				break
			}
			if !now.Before(e.expires) || len(s.sets) >= maxRecipientSets {
				delete(s.sets, other)
			}
		}
	}
	s.sets[id] = entry
}

func setOf(tenant string, req *speke.Request) recipientSet {
	h := sha256.New()
	write := func(text string) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		io.WriteString(h, text) //nolint:errcheck // a hash does not fail
	}
	write(tenant)
	var few [4]string
	for _, text := range req.RecipientTexts(few[:0]) {
		write(text)
	}
	var id recipientSet
	h.Sum(id[:0])
	return id
}
