package playback

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/internal/audit"
)

// maxKIDs bounds the key IDs of one license request (D-402).
const maxKIDs = 64

// licenseRequest is what a browser's Clear Key asks (D-401). Members that are
// not known are ignored; a missing type means temporary.
type licenseRequest struct {
	KIDs []string `json:"kids"`
	Type string   `json:"type"`
}

// jwk is one key of a license.
type jwk struct {
	Type string `json:"kty"`
	Key  string `json:"k"`
	KID  string `json:"kid"`
}

type license struct {
	Keys []jwk  `json:"keys"`
	Type string `json:"type"`
}

var errClearKeyOff = refuse(http.StatusForbidden, "content keys are not given out in clear")

// clearKeyLicense answers a license request of the W3C's Clear Key (D-401 to
// D-405). A key that is unknown, or that the token does not cover, is left out:
// players play the tracks that they got keys for.
func (s *Service) clearKeyLicense(ctx context.Context, c *call) (*answer, error) {
	if !c.grant.settings.ClearKey {
		return nil, errClearKeyOff
	}
	kids, err := readLicenseRequest(c.body)
	if err != nil {
		return nil, &Error{Status: http.StatusBadRequest, Text: "malformed license request", why: err}
	}
	out := license{Keys: []jwk{}, Type: "temporary"}
	var refused error
	for _, kid := range kids {
		key, use, err := s.clearKey(ctx, c.grant, kid)
		if e, ok := errors.AsType[*Error](err); ok {
			if prior, _ := errors.AsType[*Error](refused); prior == nil || prior.Status == http.StatusNotFound {
				refused = e // a refusal says more than an unknown key
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		out.Keys = append(out.Keys, jwk{
			"oct", base64.RawURLEncoding.EncodeToString(key.Value[:]), base64.RawURLEncoding.EncodeToString(kid[:]),
		})
		c.rec.KIDs = append(c.rec.KIDs, kid)
		c.rec.ContentID = use.content(c.grant.token)
	}
	if len(out.Keys) == 0 {
		c.rec.KIDs = kids
		return nil, refused // never an empty set (D-403)
	}
	c.rec.Protection = audit.Clear
	if len(c.rec.KIDs) < len(kids) {
		c.rec.Requested = kids
	}
	body, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return &answer{"application/json", body}, nil
}

// readLicenseRequest returns the key IDs of a request, each once.
func readLicenseRequest(body []byte) ([]contentkey.KID, error) {
	var req licenseRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, errors.New("not a JSON object with kids")
	}
	switch {
	case len(req.KIDs) == 0:
		return nil, errors.New("kids: none")
	case len(req.KIDs) > maxKIDs:
		return nil, errors.New("kids: too many")
	case req.Type != "" && req.Type != "temporary" && req.Type != "persistent-license":
		return nil, errors.New("type: neither temporary nor persistent-license")
	}
	kids := make([]contentkey.KID, 0, len(req.KIDs))
	seen := make(map[contentkey.KID]bool)
	for _, text := range req.KIDs {
		// Some players write padding or the standard alphabet (D-402).
		text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(b) != len(contentkey.KID{}) {
			return nil, errors.New("kids: not base64url of 16 bytes")
		}
		if kid := contentkey.KID(b); !seen[kid] {
			seen[kid] = true
			kids = append(kids, kid)
		}
	}
	return kids, nil
}

// hlsKey answers with the 16 bytes of a content key (D-431), where HLS
// playlists with the KEYFORMAT identity point to (D-433).
func (s *Service) hlsKey(ctx context.Context, c *call) (*answer, error) {
	if !c.grant.settings.ClearKey {
		return nil, errClearKeyOff
	}
	c.rec.ContentID = c.r.PathValue("contentId")
	kid, err := contentkey.ParseKID(c.r.PathValue("kid"))
	if err != nil {
		return nil, errNoKey
	}
	c.rec.KIDs = []contentkey.KID{kid}
	key, use, err := s.clearKey(ctx, c.grant, kid)
	if err != nil {
		return nil, err
	}
	if !use.contents[c.rec.ContentID] {
		return nil, errNoKey
	}
	c.rec.Protection = audit.Clear
	return &answer{"application/octet-stream", key.Value[:]}, nil
}
