package drm

import (
	"fmt"

	"spekeasy/contentkey"
)

var (
	commonPSSHID = SystemID{0x10, 0x77, 0xef, 0xec, 0xc0, 0xb2, 0x4d, 0x02, 0xac, 0xe3, 0x3c, 0x1e, 0x52, 0xe2, 0xfb, 0x4b}
	clearKeyID   = SystemID{0xe2, 0x71, 0x9d, 0x58, 0xa9, 0x85, 0xb3, 0xc9, 0x78, 0x1a, 0xb0, 0x30, 0xaf, 0x78, 0xd3, 0x0e}
)

// CommonPSSH signals key IDs without any DRM system: the common pssh box of
// the W3C, which Clear Key in browsers asks for. It fits every scheme, and it
// does not say that Clear Key licenses are offered (D-410, D-412).
type CommonPSSH struct{}

var _ System = CommonPSSH{}

// ID returns 1077efec-c0b2-4d02-ace3-3c1e52e2fb4b.
func (CommonPSSH) ID() SystemID { return commonPSSHID }

// Name returns "W3C common PSSH".
func (CommonPSSH) Name() string { return "W3C common PSSH" }

// Supports reports true for every scheme, and for none.
func (CommonPSSH) Supports(contentkey.Scheme) bool { return true }

// Fields returns PSSH and ContentProtection.
func (CommonPSSH) Fields() Fields { return PSSH | ContentProtection }

// Signal returns a version 1 box that lists the key ID and has no data, and
// the pssh element with that box.
func (CommonPSSH) Signal(t *Track, want Fields) (Signaling, error) {
	const boxLen = boxHeaderLen + 4 + 16
	var scratch [boxLen]byte
	kids := [1]contentkey.KID{t.KID}
	box := Box{Version: 1, SystemID: commonPSSHID, KIDs: kids[:]}.Append(scratch[:0])

	n := 0
	if want&PSSH != 0 {
		n += boxLen
	}
	if want&ContentProtection != 0 {
		n += psshElementLen(boxLen)
	}
	var s Signaling
	b := t.Room.take(n)
	if want&PSSH != 0 {
		b = append(b, box...)
		s.PSSH = tail(b, 0)
	}
	if want&ContentProtection != 0 {
		at := len(b)
		b = appendPSSHElement(b, &base64Once{raw: box})
		s.ContentProtection = tail(b, at)
	}
	return s, nil
}

// ClearKeyDASH signals Clear Key in DASH by the identifier of DASH-IF, for
// cenc and cbcs (D-420). It hands content keys to browsers in the clear.
type ClearKeyDASH struct {
	// LicenseURL is the https URL where players post W3C license requests;
	// http is accepted for loopback addresses. Without it the system defines
	// no fields.
	LicenseURL string `json:"license_url,omitzero" yaml:"license_url,omitempty"`
}

var _ System = ClearKeyDASH{}

// ID returns e2719d58-a985-b3c9-781a-b030af78d30e.
func (ClearKeyDASH) ID() SystemID { return clearKeyID }

// Name returns "Clear Key".
func (ClearKeyDASH) Name() string { return "Clear Key" }

// Supports reports true for cenc and cbcs.
func (ClearKeyDASH) Supports(s contentkey.Scheme) bool {
	return s == contentkey.Cenc || s == contentkey.Cbcs
}

// Fields returns ContentProtection if there is a license URL. The pssh box of
// [CommonPSSH] stands beside it and is a system of its own (D-412).
func (c ClearKeyDASH) Fields() Fields {
	if c.LicenseURL == "" {
		return 0
	}
	return ContentProtection
}

// Validate reports a license URL that cannot be used.
func (c ClearKeyDASH) Validate() error {
	if c.LicenseURL == "" {
		return nil
	}
	if err := checkSecureURL(c.LicenseURL); err != nil {
		return fmt.Errorf("license_url: %w", err)
	}
	return nil
}

// Signal returns the Laurl element of DASH-IF with the license URL.
func (c ClearKeyDASH) Signal(t *Track, want Fields) (Signaling, error) {
	const start, end = `<dashif:Laurl xmlns:dashif="https://dashif.org/CPS" licenseType="EME-1.0">`, `</dashif:Laurl>`
	if !c.Supports(t.Scheme) {
		return Signaling{}, schemeError(c, t.Scheme)
	}
	if want&c.Fields() == 0 {
		return Signaling{}, nil
	}
	b := t.Room.take(len(start) + len(c.LicenseURL) + len(end))
	b = append(b, start...)
	b = appendXMLText(b, c.LicenseURL)
	b = append(b, end...)
	return Signaling{ContentProtection: tail(b, 0)}, nil
}
