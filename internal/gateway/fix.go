package gateway

import "strings"

// Fix is one kind of repair that an upstream's answer needed before an
// encryptor could use it.
type Fix uint8

// The repairs. What an encryptor would not notice, such as other prefixes or
// blanks, is none.
const (
	FixV1        Fix = iota // namespace, elements or CPIX@id of SPEKE v1 in a v2 answer (S2-PAY-03, -06)
	FixContentID            // the content ID was missing, or under v1's name
	FixVersion              // CPIX@version was missing or another one
	FixPSKC                 // no prefix for the PSKC namespace on the root (S2-PAY-04)
	FixGUID                 // a UUID came back in another spelling
	FixKIDs                 // a new key ID was not used everywhere (SX-KID-02)
	FixOrder                // keys, systems or rules stood in another order (S2-ECHO-04)
	FixScheme               // commonEncryptionScheme was missing
	FixIV                   // explicitIV was missing, or not the request's
	FixPeriods              // key periods were missing
	FixContract             // usage rules were missing
	FixPlaylist             // HLSSignalingData without playlist (S2-PAY-34)
	FixBox                  // PSSH data without its box (S2-PAY-32)
	FixMatch                // ContentProtectionData or a key tag did not have the box of PSSH (S2-PAY-43)
	FixProtect              // signaling for another scheme (S2-WV-02, S2-PR-06)
	FixComplete             // a value was missing and followed from the others
	FixExtra                // signaling that nobody asked for, or left empty (S2-PAY-41, -42)
	numFixes
)

var fixNames = [numFixes]string{
	"strip-v1", "content-id", "version", "declare-pskc", "guid-spelling", "kid-everywhere", "order", "scheme", "explicit-iv",
	"echo-periods", "echo-contract", "add-playlist", "pssh-box", "match-pssh", "protection-scheme", "complete-signaling", "drop-unrequested",
}

// String returns the name in counters, logs and records.
func (f Fix) String() string { return fixNames[f] }

// Fixes lists the names of all repairs.
func Fixes() []string { return fixNames[:] }

// fixes is a set of them.
type fixes uint32

func (s *fixes) add(f Fix) { *s |= 1 << f }

func (s *fixes) addIf(f Fix, is bool) {
	if is {
		s.add(f)
	}
}

func (s fixes) each(yield func(Fix) bool) {
	for f := range numFixes {
		if s&(1<<f) != 0 && !yield(f) {
			return
		}
	}
}

func (s fixes) names() []string {
	var out []string
	for f := range s.each {
		out = append(out, f.String())
	}
	return out
}

func (s fixes) String() string { return strings.Join(s.names(), ", ") }
