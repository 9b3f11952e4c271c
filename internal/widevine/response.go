package widevine

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"spekeasy/contentkey"
)

// Track is a content key in an answer.
type Track struct {
	Type   string
	KID    contentkey.KID
	Key    contentkey.Value
	IV     contentkey.IV // for cbcs; none for cenc (D-523)
	HasIV  bool
	PSSH   []PSSH
	Period *uint32 // index of the crypto period, nil without rotation
}

// Format hides the key.
func (t Track) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "(track %s, key ID %s)", t.Type, t.KID) }

// PSSH is the signaling of one DRM system.
type PSSH struct {
	DRMType string // WIDEVINE, PLAYREADY
	Data    []byte // of the box
	Box     []byte // whole
}

// The JSON of an answer; bytes are base64 there.
type (
	jsonResponse struct {
		Status      Status      `json:"status"`
		DRM         []jsonDRM   `json:"drm,omitempty"`
		Tracks      []jsonTrack `json:"tracks,omitempty"`
		AlreadyUsed *bool       `json:"already_used,omitempty"`
	}
	jsonDRM struct {
		Type     string `json:"type"`
		SystemID string `json:"system_id"`
	}
	jsonTrack struct {
		Type   string     `json:"type"`
		KeyID  []byte     `json:"key_id"`
		Key    []byte     `json:"key"`
		IV     []byte     `json:"iv,omitempty"`
		PSSH   []jsonPSSH `json:"pssh"`
		Period *uint32    `json:"crypto_period_index,omitempty"`
	}
	jsonPSSH struct {
		DRMType string `json:"drm_type"`
		Data    []byte `json:"data"`
		Boxes   []byte `json:"boxes"`
	}
	jsonEnvelope struct {
		Response []byte `json:"response"`
	}
)

// SystemID is Widevine's system ID as the answer writes it.
const SystemID = "edef8ba979d64acea3c827dcd51d21ed"

// Answer returns the body of an answer with keys, tracks in the order given
// (D-520). alreadyUsed says that all of them existed before (D-511).
func Answer(tracks []Track, alreadyUsed bool) ([]byte, error) {
	out := jsonResponse{Status: OK, AlreadyUsed: &alreadyUsed, DRM: []jsonDRM{{"WIDEVINE", SystemID}}}
	for i := range tracks {
		t := &tracks[i]
		j := jsonTrack{Type: t.Type, KeyID: t.KID[:], Key: t.Key[:], Period: t.Period}
		if t.HasIV {
			j.IV = t.IV[:]
		}
		for _, p := range t.PSSH {
			j.PSSH = append(j.PSSH, jsonPSSH{p.DRMType, p.Data, p.Box})
		}
		out.Tracks = append(out.Tracks, j)
	}
	return seal(&out)
}

// Refusal returns the body of an answer without keys (D-525).
func Refusal(s Status) ([]byte, error) { return seal(&jsonResponse{Status: s}) }

func seal(out *jsonResponse) ([]byte, error) {
	inner, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("widevine answer: %w", err)
	}
	defer clear(inner)
	body, err := json.Marshal(jsonEnvelope{inner})
	if err != nil {
		return nil, fmt.Errorf("widevine answer: %w", err)
	}
	return body, nil
}

// ReadAnswer reads an answer as a packager does. The error is an [*Error]
// when the answer's status is not OK.
func ReadAnswer(body []byte) (tracks []Track, alreadyUsed bool, err error) {
	var envelope jsonEnvelope
	var in jsonResponse
	if err := json.Unmarshal(body, &envelope); err != nil {
		return nil, false, fmt.Errorf("widevine answer: %w", err)
	}
	if err := json.Unmarshal(envelope.Response, &in); err != nil {
		return nil, false, fmt.Errorf("widevine answer: %w", err)
	}
	if in.Status != OK {
		return nil, false, &Error{Status: in.Status}
	}
	for _, j := range in.Tracks {
		if len(j.KeyID) != 16 || len(j.Key) != 16 || len(j.IV) != 0 && len(j.IV) != 16 {
			return nil, false, fmt.Errorf("widevine answer: track %s: key ID %s: sizes of %d, %d and %d bytes",
				j.Type, hex.EncodeToString(j.KeyID), len(j.KeyID), len(j.Key), len(j.IV))
		}
		t := Track{Type: j.Type, KID: contentkey.KID(j.KeyID), Key: contentkey.Value(j.Key), Period: j.Period}
		if len(j.IV) == 16 {
			t.IV, t.HasIV = contentkey.IV(j.IV), true
		}
		for _, p := range j.PSSH {
			t.PSSH = append(t.PSSH, PSSH{p.DRMType, p.Data, p.Boxes})
		}
		tracks = append(tracks, t)
	}
	return tracks, in.AlreadyUsed != nil && *in.AlreadyUsed, nil
}
