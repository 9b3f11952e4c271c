package packager

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/tenant"
	"spekeasy/internal/xmltree"
)

// trackAll is the label of one key for all tracks (S2-CON-02), which is all
// that Microsoft's call can carry.
const trackAll = "ALL"

// Namespaces of Microsoft's packaging call.
const (
	soapNamespace      = "http://schemas.xmlsoap.org/soap/envelope/"
	packagingNamespace = "http://schemas.microsoft.com/DRM/2007/03/protocols"
	packagingV1        = packagingNamespace + "/AcquirePackagingData/v1.0"
)

// PlayReady answers Microsoft's AcquirePackagingData call (D-605): one key for
// all tracks of a content, with PlayReady's data. The call does not say which
// scheme the packager will use.
func (p *Provider) PlayReady(ctx context.Context, t *tenant.Tenant, request []byte, scheme contentkey.Scheme) (*Answer, error) {
	program, err := parsePackagingCall(request)
	if err != nil {
		return nil, err
	}
	s := system(t, playReadyID)
	if s == nil || !s.Supports(scheme) {
		return nil, &Refused{fmt.Sprintf("PlayReady does not play %s", scheme), nil}
	}
	if t.Policy.Contract.SeparateAudio {
		return nil, &Refused{"one key for audio and video is not allowed to this tenant", nil}
	}
	a := &ask{contentID: ContentID([]byte(program)), scheme: scheme, profile: ProfilePlayReady, tracks: []string{trackAll},
		single: true, systems: []drm.System{s}}
	keys, created, err := p.obtain(ctx, t, a)
	if err != nil {
		return nil, err
	}
	k := &keys[0].Key
	signaled, err := s.Signal(a.track(k), drm.PSSH)
	if err != nil {
		return nil, fmt.Errorf("PlayReady signaling of key ID %s: %w", k.KID, err)
	}
	box, err := drm.ParseBox(signaled.PSSH)
	if err != nil {
		return nil, fmt.Errorf("PlayReady signaling of key ID %s: %w", k.KID, err)
	}
	return finish(a, keys, created, packagingAnswer(program, k.KID, k.Value, box.Data)), nil
}

// parsePackagingCall returns the program identifier, our content ID. Elements
// are found by their local names, as the other side of this protocol does.
func parsePackagingCall(request []byte) (program string, err error) {
	doc, err := xmltree.Parse(string(request))
	if err != nil {
		return "", &Refused{"malformed request", err}
	}
	root := doc.Root()
	if root.Local() != "Envelope" || root.Space() != soapNamespace {
		return "", &Refused{"not a SOAP envelope", nil}
	}
	call := child(child(root, "Body"), "AcquirePackagingData")
	challenge := child(call, "challenge")
	if challenge == nil {
		return "", &Refused{"not an AcquirePackagingData call", nil}
	}
	if id := child(child(challenge, "ProtectionSystems"), "ProtectionSystemId"); id != nil {
		if system, err := drm.ParseSystemID(strings.TrimSpace(id.Text())); err != nil || system != playReadyID {
			return "", &Refused{"a protection system other than PlayReady", nil}
		}
	}
	info := child(child(challenge, "StreamProtectionRequests"), "StreamInformation")
	if id := child(info, "ProgramIdentifier"); id != nil {
		program = strings.TrimSpace(id.Text())
	}
	switch {
	case program == "":
		return "", &Refused{"no ProgramIdentifier", nil}
	case len(program) > maxProgram:
		return "", &Refused{"the ProgramIdentifier is too long", nil}
	case info.Next() != nil:
		return "", &Refused{"more than one StreamInformation", nil}
	}
	return program, nil
}

const maxProgram = 1024 // bytes, as of content IDs elsewhere (D-510)

// child finds the first child of a name; nil has none.
func child(e *xmltree.Element, local string) *xmltree.Element {
	if e == nil {
		return nil
	}
	for c := e.FirstChild(); c != nil; c = c.Next() {
		if c.Local() == local {
			return c
		}
	}
	return nil
}

// packagingAnswer writes what Shaka Packager looks for: KeyId, KeyData and
// Data without prefixes or attributes.
func packagingAnswer(program string, kid contentkey.KID, key contentkey.Value, data []byte) []byte {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?>` +
		`<soap:Envelope xmlns:soap="` + soapNamespace + `"><soap:Body>` +
		`<AcquirePackagingDataResponse xmlns="` + packagingNamespace + `">` +
		`<AcquirePackagingDataResult xmlns="` + packagingV1 + `">` +
		`<ProtectionSystems><ProtectionSystem><ProtectionSystemId>` + strings.ToUpper(playReadyID.String()) +
		`</ProtectionSystemId></ProtectionSystem></ProtectionSystems>` +
		`<StreamProtectionResults><StreamProtectionResult><StreamInformation><ProgramIdentifier>`)
	b.WriteString(xmltree.Escape(program))
	b.WriteString(`</ProgramIdentifier><OffsetFromProgramStart>P0S</OffsetFromProgramStart></StreamInformation><KeyId>`)
	b.WriteString(kid.String())
	b.WriteString(`</KeyId><KeyData>`)
	b.WriteString(base64.StdEncoding.EncodeToString(key[:]))
	b.WriteString(`</KeyData><ProtectionData><ProtectionSystemId>` + strings.ToUpper(playReadyID.String()) + `</ProtectionSystemId><Data>`)
	b.WriteString(base64.StdEncoding.EncodeToString(data))
	b.WriteString(`</Data></ProtectionData></StreamProtectionResult></StreamProtectionResults>` +
		`</AcquirePackagingDataResult></AcquirePackagingDataResponse></soap:Body></soap:Envelope>`)
	return []byte(b.String())
}

// errSeveral refuses one key to a content that has several.
const errSeveral = "the content has keys for several tracks, and this protocol carries one for all"
