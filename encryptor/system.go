package encryptor

import (
	"slices"
	"strings"

	"spekeasy/cpix"
	"spekeasy/drm"
)

// A system is a DRM system that requests can name.
type system struct {
	name  string // in Options
	label string // for people
	id    string // its UUID in SPEKE v2; "" if it has none there
	v1    string // its UUID in SPEKE v1; "" if it has none there

	schemes string // the common encryption schemes that its clients play, joined by blanks (S2-DRM-01)
	boxes   bool   // is signaled by PSSH and ContentProtectionData
	hls     bool   // is signaled by HLSSignalingData
}

// systems are the DRM systems by name.
var systems = [...]system{
	{name: "widevine", label: "Widevine", id: widevineID, v1: widevineID, schemes: "cenc cbcs", boxes: true, hls: true},
	{name: "playready", label: "PlayReady", id: playReadyID, v1: playReadyID, schemes: "cenc cbcs", boxes: true, hls: true},
	{name: "fairplay", label: "FairPlay", id: fairPlayID, v1: fairPlayID, schemes: "cbcs", hls: true},
	{name: "aes-128", label: "HLS AES-128", id: aes128ID, v1: aes128V1ID, schemes: "cbc1", hls: true},
	{name: "sample-aes", label: "HLS SAMPLE-AES", id: sampleAESID, schemes: "cbcs", hls: true},
	{name: "clearkey", label: "Clear Key", id: clearKeyID, schemes: "cenc cbcs", boxes: true},
	{name: "common", label: "Common PSSH", id: commonID, v1: commonID, schemes: "cenc cens cbc1 cbcs", boxes: true},
	{name: "irdeto", label: "Irdeto", id: irdetoID, schemes: "cenc", boxes: true},
}

const (
	widevineID  = "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"
	playReadyID = "9a04f079-9840-4286-ab92-e65be0885f95"
	fairPlayID  = "94ce86fb-07ff-4f43-adb8-93d2fa968ca2"
	aes128ID    = "3ea8778f-7742-4bf9-b18b-e834b2acbd47"
	aes128V1ID  = "81376844-f976-481e-a84e-cc25d39b0b33"
	sampleAESID = "be58615b-19c4-4684-88b3-c8c57e99e957"
	clearKeyID  = "e2719d58-a985-b3c9-781a-b030af78d30e"
	commonID    = "1077efec-c0b2-4d02-ace3-3c1e52e2fb4b"
	irdetoID    = "80a6be7e-1448-4c37-9e70-d5aebe04c8d2"
)

// SystemNames returns the names of DRM systems that [Options] knows.
func SystemNames() []string {
	names := make([]string, len(systems))
	for i := range systems {
		names[i] = systems[i].name
	}
	return names
}

// SystemLabel returns a readable name of a DRM system, such as "Widevine",
// or the UUID of one that is not known here.
func SystemLabel(id drm.SystemID) string {
	text := id.String()
	for i := range systems {
		if systems[i].id == text || systems[i].v1 == text {
			return systems[i].label
		}
	}
	return text
}

// findSystem finds a system by its name or gives an unknown UUID the
// placeholders of one that is signaled in every way; ok is false for a text
// that is neither.
func findSystem(name string) (s system, ok bool) {
	for i := range systems {
		if systems[i].name == name {
			return systems[i], true
		}
	}
	id, err := drm.ParseSystemID(name)
	if err != nil {
		return system{}, false
	}
	text := id.String()
	for i := range systems {
		if systems[i].id == text || systems[i].v1 == text {
			s := systems[i]
			s.name, s.id, s.v1 = text, text, text
			return s, true
		}
	}
	return system{name: text, label: text, id: text, v1: text, schemes: "cenc cens cbc1 cbcs", boxes: true, hls: true}, true
}

// idFor returns the system's UUID in a version of SPEKE, "" for none.
func (s *system) idFor(v Version) string {
	if v == V10 {
		return s.v1
	}
	return s.id
}

// plays reports whether clients of the system play the scheme, which may be
// one of HLS's method names (S21-DRM-02).
func (s *system) plays(scheme string) bool {
	return slices.Contains(strings.Fields(s.schemes), cencName(scheme))
}

// cencName translates the HLS methods that SPEKE 2.1 allows as
// commonEncryptionScheme (S21-PAY-71); other texts stay as they are.
func cencName(scheme string) string {
	switch scheme {
	case "AES-128":
		return "cbc1"
	case "SAMPLE-AES":
		return "cbcs"
	case "SAMPLE-AES-CTR":
		return "cenc"
	}
	return scheme
}

// A placeholder is a signaling element that a request leaves to be filled.
type placeholder struct {
	kind     cpix.Kind
	playlist string // of HLSSignalingData
}

// placeholders returns what a service asks of the system for a packaging, in
// the order in which it writes it (S2-PAY-32 to -35, -46; S1-PAY-08).
func (s *system) placeholders(service Service, v Version, p Packaging) []placeholder {
	if v == V10 {
		return s.placeholdersV1(service, p)
	}
	var out []placeholder
	if s.boxes && p != HLS {
		out = append(out, placeholder{kind: cpix.PSSH})
	}
	if s.boxes && (p == DASH || p == CMAF) {
		out = append(out, placeholder{kind: cpix.ContentProtectionData})
	}
	if s.hls && (p == HLS || p == CMAF) {
		out = append(out, placeholder{cpix.HLSSignalingData, "media"}, placeholder{cpix.HLSSignalingData, "master"})
	}
	if p == Smooth {
		out = append(out, placeholder{kind: cpix.SmoothProtectionHeader})
	}
	if s.id == clearKeyID {
		out = slices.DeleteFunc(out, func(p placeholder) bool { return p.kind == cpix.PSSH }) // D-412
	}
	return out
}

func (s *system) placeholdersV1(service Service, p Packaging) []placeholder {
	switch {
	case service == MediaPackageV1 || service == MediaPackageV1VOD: // S1-PAY-08
		return []placeholder{
			{kind: cpix.ContentProtectionData}, {kind: cpix.KeyFormat}, {kind: cpix.KeyFormatVersions},
			{kind: cpix.ProtectionHeader}, {kind: cpix.PSSH}, {kind: cpix.URIExtXKey},
		}
	case p == HLS || !s.boxes:
		return []placeholder{{kind: cpix.URIExtXKey}, {kind: cpix.KeyFormat}, {kind: cpix.KeyFormatVersions}}
	case s.id == playReadyID:
		return []placeholder{{kind: cpix.ProtectionHeader}, {kind: cpix.PSSH}}
	case s.id == commonID:
		return []placeholder{{kind: cpix.PSSH}, {kind: cpix.ContentProtectionData}}
	}
	return []placeholder{{kind: cpix.PSSH}}
}
