package playback

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/audit"
	"spekeasy/internal/tenant"
	"spekeasy/internal/widevine"
)

// widevineLicense has the tenant's account at Google's service make a license
// with our content keys (D-540). A first call finds out which keys the
// challenge is for.
func (s *Service) widevineLicense(ctx context.Context, c *call) (*answer, error) {
	w := c.grant.settings.Widevine
	if w == nil {
		return nil, refuse(http.StatusForbidden, "Widevine licenses are not offered")
	}
	if len(c.body) == 0 {
		return nil, refuse(http.StatusBadRequest, "malformed license request")
	}
	if isCertificateRequest(c.body) {
		// It names no content, and its answer opens none (D-542).
		return s.askWidevine(ctx, w, map[string]any{"payload": c.body})
	}
	kids, err := s.challengedKeys(ctx, w, c)
	if err != nil {
		return nil, err
	}
	c.rec.KIDs = kids
	specs := make([]map[string]any, 0, len(kids))
	for _, kid := range kids {
		key, use, err := s.contentKey(ctx, c.grant, kid)
		if err != nil {
			return nil, err
		}
		c.rec.ContentID = use.content(c.grant.token)
		spec := map[string]any{
			"key_id": kid[:], "key": key.Value[:], "security_level": max(w.SecurityLevel, 1),
			"required_output_protection": map[string]any{"hdcp": "HDCP_NONE"},
		}
		if w.HDCP != "" {
			spec["required_output_protection"] = map[string]any{"hdcp": w.HDCP}
		}
		specs = append(specs, spec)
	}
	c.rec.Protection = audit.Encrypted
	return s.askWidevine(ctx, w, map[string]any{
		"payload": c.body, "content_id": []byte(c.rec.ContentID), "content_key_specs": specs,
	})
}

// isCertificateRequest recognizes the two bytes that ask for the service's
// certificate.
func isCertificateRequest(challenge []byte) bool { return len(challenge) == 2 }

// challengedKeys are the key IDs of the init data that a challenge was made
// from, or the one that the token is for.
func (s *Service) challengedKeys(ctx context.Context, w *tenant.WidevineProxy, c *call) ([]contentkey.KID, error) {
	parsed, err := s.callWidevine(ctx, w, map[string]any{"payload": c.body, "parse_only": true})
	if err != nil {
		return nil, err
	}
	var kids []contentkey.KID
	ids := parsed.PSSH.KeyIDs
	if boxes, err := drm.ParseBoxes(parsed.PSSH.Data); err == nil && len(boxes) > 0 {
		data, err := drm.ParseWidevineData(boxes[0].Data)
		if err != nil {
			return nil, errUpstream(fmt.Errorf("the pssh box of the challenge: %w", err))
		}
		ids = append(ids, data.KeyIDs...)
	}
	for _, id := range ids {
		if len(id) != len(contentkey.KID{}) {
			return nil, errUpstream(errors.New("a key ID of the challenge is not 16 bytes long"))
		}
		kids = append(kids, contentkey.KID(id))
	}
	if len(kids) == 0 && c.grant.token != nil {
		kids = c.grant.token.KIDs
	}
	if len(kids) == 0 {
		return nil, errNoKey
	}
	return kids, nil
}

// widevineAnswer has those members of the service's answer that matter here.
type widevineAnswer struct {
	Status  string       `json:"status"`
	License []byte       `json:"license"`
	PSSH    widevinePSSH `json:"pssh_data"`
}

// widevinePSSH is given as an object or as the base64 of init data.
type widevinePSSH struct {
	KeyIDs [][]byte
	Data   []byte
}

func (p *widevinePSSH) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte{'"'}) {
		return json.Unmarshal(b, &p.Data)
	}
	var v struct {
		KeyID [][]byte `json:"key_id"`
	}
	err := json.Unmarshal(b, &v)
	p.KeyIDs = v.KeyID
	return err
}

func (s *Service) askWidevine(ctx context.Context, w *tenant.WidevineProxy, members map[string]any) (*answer, error) {
	a, err := s.callWidevine(ctx, w, members)
	if err != nil {
		return nil, err
	}
	if len(a.License) == 0 {
		return nil, errUpstream(errors.New("it answered without a license"))
	}
	return &answer{"application/octet-stream", a.License}, nil
}

// callWidevine signs and sends one request.
func (s *Service) callWidevine(ctx context.Context, w *tenant.WidevineProxy, members map[string]any) (*widevineAnswer, error) {
	members["provider"] = w.Provider
	if w.Policy != "" {
		members["policy_name"] = w.Policy
	}
	maps.Copy(members, w.Overrides)
	inner, err := json.Marshal(members)
	if err != nil {
		return nil, fmt.Errorf("widevine request: %w", err)
	}
	key, iv, err := w.Signature()
	if err != nil {
		return nil, fmt.Errorf("widevine request: %w", err)
	}
	signer, err := widevine.NewAESSigner(key, iv)
	if err != nil {
		return nil, fmt.Errorf("widevine request: %w", err)
	}
	body, err := json.Marshal(map[string]any{"request": inner, "signature": signer.Sign(inner), "signer": w.Provider})
	if err != nil {
		return nil, fmt.Errorf("widevine request: %w", err)
	}
	made, err := s.post(ctx, w.URL, http.Header{"Content-Type": {"application/json"}}, body)
	if err != nil {
		return nil, err
	}
	var a widevineAnswer
	if err := json.Unmarshal(made.body, &a); err != nil {
		return nil, errUpstream(errors.New("its answer is not the JSON of a license"))
	}
	if a.Status != "OK" {
		return nil, errUpstream(fmt.Errorf("it answered with status %.64q", a.Status))
	}
	return &a, nil
}
