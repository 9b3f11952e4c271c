package playback

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/internal/audit"
)

// ModuleRequest is what a Key Security Module is asked (D-313): a POST of
// JSON. Byte members are standard base64.
type ModuleRequest struct {
	SPC           []byte         `json:"spc"` // as the player sent it
	Tenant        string         `json:"tenant"`
	ContentID     string         `json:"content_id"`
	KID           contentkey.KID `json:"kid"`
	Key           []byte         `json:"key"`
	IV            []byte         `json:"iv"`
	LeaseSeconds  int            `json:"lease_seconds,omitzero"`
	RentalSeconds int            `json:"rental_seconds,omitzero"`
	HDCP          string         `json:"hdcp,omitzero"` // NONE, TYPE-0, TYPE-1
}

// ModuleAnswer is what it answers with status 200.
type ModuleAnswer struct {
	CKC []byte `json:"ckc"`
}

// wrapper is how a player packs SPC and CKC (D-314).
type wrapper int

const (
	wrapRaw wrapper = iota
	wrapForm
	wrapJSON
)

// unwrap finds the SPC of a request, and for which key it is as far as the
// wrapper says so: a UUID or the skd URI of the playlist.
func unwrap(r *http.Request, body []byte) (spc []byte, asset string, w wrapper, err error) {
	q := r.URL.Query()
	asset = firstOf(q, "kid", "assetId", "uri")
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case media == "application/json":
		w = wrapJSON
		var v struct {
			SPC     string `json:"spc"`
			AssetID string `json:"assetId"`
			KID     string `json:"kid"`
		}
		if json.Unmarshal(body, &v) != nil {
			return nil, "", w, errors.New("not a JSON object")
		}
		spc, err = decodeBase64(v.SPC)
		for _, text := range []string{v.AssetID, v.KID} {
			if text != "" {
				asset = text
			}
		}
	case media == "application/x-www-form-urlencoded":
		w = wrapForm
		form, formErr := url.ParseQuery(string(body))
		if formErr != nil {
			return nil, "", w, errors.New("not a form")
		}
		// A "+" that was not escaped has become a blank.
		spc, err = decodeBase64(strings.ReplaceAll(form.Get("spc"), " ", "+"))
		if text := firstOf(form, "kid", "assetId"); text != "" {
			asset = text
		}
	default:
		spc = body
	}
	if err == nil && len(spc) == 0 {
		err = errors.New("no spc")
	}
	return spc, asset, w, err
}

func firstOf(v url.Values, names ...string) string {
	for _, name := range names {
		if text := v.Get(name); text != "" {
			return text
		}
	}
	return ""
}

// decodeBase64 reads either alphabet, with padding or without.
func decodeBase64(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("spc: not base64")
	}
	return b, nil
}

func (w wrapper) wrap(ckc []byte) (*answer, error) {
	text := base64.StdEncoding.EncodeToString(ckc)
	switch w {
	case wrapForm:
		return &answer{"text/plain; charset=utf-8", []byte("<ckc>" + text + "</ckc>")}, nil
	case wrapJSON:
		body, err := json.Marshal(ModuleAnswer{CKC: ckc})
		return &answer{"application/json", body}, err
	}
	return &answer{"application/octet-stream", ckc}, nil
}

// fairPlayLicense has the tenant's Key Security Module make a license with
// our content key (D-313). Which key an SPC is for only the module could read,
// so that the request or the token has to say it.
func (s *Service) fairPlayLicense(ctx context.Context, c *call) (*answer, error) {
	f := c.grant.settings.FairPlay
	if f == nil {
		return nil, refuse(http.StatusForbidden, "FairPlay licenses are not offered")
	}
	spc, asset, w, err := unwrap(c.r, c.body)
	if err != nil {
		return nil, &Error{Status: http.StatusBadRequest, Text: "malformed license request", why: err}
	}
	kid, err := assetKID(asset, c.grant.token)
	if err != nil {
		return nil, err
	}
	c.rec.KIDs = []contentkey.KID{kid}
	key, use, err := s.contentKey(ctx, c.grant, kid)
	if err != nil {
		return nil, err
	}
	c.rec.ContentID = use.content(c.grant.token)
	body, err := json.Marshal(ModuleRequest{
		SPC: spc, Tenant: c.grant.tenant.ID, ContentID: c.rec.ContentID, KID: kid, Key: key.Value[:], IV: key.IV[:],
		LeaseSeconds: f.Lease, RentalSeconds: f.Rental, HDCP: f.HDCP,
	})
	if err != nil {
		return nil, err
	}
	h := http.Header{"Content-Type": {"application/json"}}
	if f.Token != "" {
		h.Set("Authorization", "Bearer "+string(f.Token))
	}
	made, err := s.post(ctx, f.URL, h, body)
	if err != nil {
		return nil, err
	}
	var out ModuleAnswer
	if err := json.Unmarshal(made.body, &out); err != nil || len(out.CKC) == 0 {
		return nil, errUpstream(errors.New("the module's answer has no ckc"))
	}
	c.rec.Protection = audit.Encrypted
	return w.wrap(out.CKC)
}

// uuidPattern finds a key ID in the forms of FairPlay URIs (D-303).
var uuidPattern = regexp.MustCompile(`(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}`)

// assetKID finds the key ID in what a player says: a UUID, an skd URI with
// one, MediaPackage's JSON in base64, or 16 bytes in base64. Without any, the
// token decides, if it is for one key.
func assetKID(asset string, token *Claims) (contentkey.KID, error) {
	if asset == "" {
		if token != nil && len(token.KIDs) == 1 {
			return token.KIDs[0], nil
		}
		return contentkey.KID{}, refuse(http.StatusBadRequest, "the request does not say which content key it is for: add kid=")
	}
	text := strings.TrimPrefix(asset, "skd://")
	if found := uuidPattern.FindString(text); found != "" {
		text = strings.ReplaceAll(found, "-", "")
		return contentkey.ParseKID(text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:])
	}
	b, err := decodeBase64(strings.ReplaceAll(text, " ", "+"))
	if err == nil && len(b) == len(contentkey.KID{}) {
		return contentkey.KID(b), nil
	}
	var v struct{ KeyId string }
	if err == nil && json.Unmarshal(b, &v) == nil {
		if kid, err := contentkey.ParseKID(v.KeyId); err == nil {
			return kid, nil
		}
	}
	return contentkey.KID{}, refuse(http.StatusBadRequest, "no key ID in what the request says it is for")
}

// fairPlayCertificate hands out the application certificate, which players
// need before they can ask.
func (s *Service) fairPlayCertificate(_ context.Context, c *call) (*answer, error) {
	f := c.grant.settings.FairPlay
	if f == nil || f.Certificate == "" {
		return nil, refuse(http.StatusNotFound, "no application certificate")
	}
	der, err := base64.StdEncoding.DecodeString(f.Certificate)
	if err != nil {
		return nil, err
	}
	return &answer{"application/octet-stream", der}, nil
}
