package vendorsim

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/xmltree"
)

// pallyCon is PallyCon, DoveRunner by its new name.
//
// Public: a token in the query of /cpix/getKey and at the end of the path of
// /v1/cpix and /v2/cpix; the heartbeat's SUCCESS; key IDs that are always
// other ones, by content ID, track and period index; errors in JSON with
// status 200; no content key encryption; answers that are written anew: system
// IDs in upper case, elements of both generations side by side, the first
// HLSSignalingData without playlist, the constant IV 0123456789abcdef; the
// texts in Widevine's data and FairPlay's key URI.
//
// Ours: how the track types of AWS are mapped, and that usage rules and
// periods are not repeated in answers.
type pallyCon struct {
	*Server
	token string
}

const (
	pallyConKey = "/cpix/getKey"
	pallyConV2  = "/v2/cpix/pallycon/getKey/"
	pallyConIV  = "0123456789abcdef"
)

func newPallyCon(s *Server) (vendor, error) {
	sum := sha256.Sum256([]byte(s.secret("token")))
	return &pallyCon{Server: s, token: base64.StdEncoding.EncodeToString(sum[:])}, nil
}

func (p *pallyCon) upstream(up *Upstream) {
	up.V1.Path, up.Auth, up.Secret = pallyConKey, EncToken, p.token
	up.Heartbeat = up.V1.JoinPath("heartbeat")
}

func (p *pallyCon) routes(mux *http.ServeMux) {
	mux.HandleFunc("POST "+pallyConKey, func(w http.ResponseWriter, r *http.Request) {
		p.handle(w, r, r.URL.Query().Get("enc-token"))
	})
	for _, path := range []string{"/v1/cpix/pallycon/getKey/", pallyConV2, "/v1/cpix/doverunner/getKey/", "/v2/cpix/doverunner/getKey/"} {
		mux.HandleFunc("POST "+path+"{token...}", func(w http.ResponseWriter, r *http.Request) {
			p.handle(w, r, r.PathValue("token"))
		})
	}
	mux.HandleFunc("GET "+pallyConKey+"/heartbeat", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write([]byte("SUCCESS")) //nolint:errcheck // an answer in the making takes all
	})
}

// refuse answers JSON with status 200, as this vendor does; only what befalls
// its server as a whole has a status.
func (p *pallyCon) refuse(w http.ResponseWriter, status int, text string) {
	code := strconv.Itoa(7000 + status%1000)
	if status != http.StatusUnauthorized && status < http.StatusInternalServerError {
		status = http.StatusOK
	}
	writeJSON(w, status, map[string]any{"errorCode": code, "message": text})
}

func (p *pallyCon) handle(w http.ResponseWriter, r *http.Request, token string) {
	if !same(token, p.token) {
		p.refuse(w, http.StatusForbidden, "Invalid token")
		return
	}
	body, err := p.answer(r)
	if err != nil {
		p.fail(w, err)
		return
	}
	answerHeader(w, r, "PallyCon (simulated)")
	w.Write(body) //nolint:errcheck // an answer in the making takes all
}

func (p *pallyCon) answer(r *http.Request) ([]byte, error) {
	o, err := readOrder(r)
	if err != nil {
		return nil, err
	}
	if len(o.doc.DeliveryData) > 0 {
		return nil, refuse(http.StatusBadRequest, "Content key encryption is not supported")
	}
	seen := make(map[contentkey.KID]bool)
	for i := range o.keys {
		k := &o.keys[i]
		k.kid = p.kid(o.contentID, pallyConTrack(k.track), k.period.Index)
		if seen[k.kid] {
			return nil, refuse(http.StatusBadRequest, "Two keys for one track")
		}
		seen[k.kid] = true
		if !k.hasIV {
			copy(k.iv[:], pallyConIV)
			k.hasIV = true
		}
	}
	if err := p.fill(o); err != nil {
		return nil, err
	}
	return p.write(o)
}

// kid is the key ID of a track: the same at each request.
func (p *pallyCon) kid(contentID, track, index string) contentkey.KID {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s", p.seed, contentID, track, index))
	kid := contentkey.KID(sum[:16])
	kid[6], kid[8] = kid[6]&0x0f|0x40, kid[8]&0x3f|0x80
	return kid
}

// pallyConTrack is the vendor's name for a track type of AWS.
func pallyConTrack(track string) string {
	switch track {
	case "", "ALL", "VIDEO":
		return "HD"
	case "UHD":
		return "UHD1"
	case "STEREO_AUDIO":
		return "AUDIO"
	}
	return track
}

// settings are the texts in the signaling: those of a live channel have the
// period's index as 16 hexadecimal digits.
func (p *pallyCon) settings(index string) (drm.Settings, error) {
	uri, content := "skd://{kid_b64}", "{content_id}"
	if n, err := strconv.ParseUint(index, 10, 64); err == nil {
		suffix := fmt.Sprintf("%016x", n)
		uri, content = "skd://{content_id}"+suffix, content+suffix
	}
	var s drm.Settings
	var err error
	if s.FairPlay.URI, err = drm.ParseTemplate(uri); err != nil {
		return s, err
	}
	s.Widevine.Provider = "inkaentworks"
	s.Widevine.ContentID, err = drm.ParseTemplate(content)
	return s, err
}

// write writes the answer from scratch.
func (p *pallyCon) write(o *order) ([]byte, error) {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8" standalone="yes"?>` + "\n<cpix:CPIX")
	if o.doc.ContentID != "" {
		attr(&b, "contentId", o.doc.ContentID)
	} else {
		attr(&b, "id", o.doc.ID)
	}
	if o.doc.Version != "" {
		attr(&b, "version", o.doc.Version)
	}
	b.WriteString(` xmlns:cpix="urn:dashif:org:cpix" xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc" xmlns:speke="urn:aws:amazon:com:speke">` +
		"\n<cpix:ContentKeyList>\n")
	for i := range o.keys {
		k := &o.keys[i]
		b.WriteString("<cpix:ContentKey")
		attr(&b, "explicitIV", k.iv.String())
		attr(&b, "kid", k.kid.String())
		if o.doc.ContentKeys[i].Scheme != "" {
			attr(&b, "commonEncryptionScheme", k.scheme.String())
		}
		b.WriteString("><cpix:Data><pskc:Secret>")
		element(&b, "pskc:PlainValue", "", k.value[:])
		b.WriteString("</pskc:Secret></cpix:Data></cpix:ContentKey>\n")
	}
	b.WriteString("</cpix:ContentKeyList>\n<cpix:DRMSystemList>\n")
	for i := range o.doc.DRMSystems {
		if err := p.writeSystem(&b, o, i); err != nil {
			return nil, err
		}
	}
	b.WriteString("</cpix:DRMSystemList>\n</cpix:CPIX>\n")
	return []byte(b.String()), nil
}

// writeSystem writes one DRM system with the elements of both generations.
func (p *pallyCon) writeSystem(b *strings.Builder, o *order, i int) error {
	e := &o.doc.DRMSystems[i]
	kid, index := e.KID, ""
	for j := range o.keys {
		if k := &o.keys[j]; strings.EqualFold(k.requested.String(), e.KID) {
			kid, index = k.kid.String(), k.period.Index
		}
	}
	settings, err := p.settings(index)
	if err != nil {
		return refuse(http.StatusBadRequest, "The content ID cannot be used")
	}
	v1, v2, err := systemsOf(settings)
	if err != nil {
		return refuse(http.StatusBadRequest, "The content ID cannot be used")
	}
	got, err := o.signal(i, append(bigThree(v2), v1...))
	if err != nil {
		return err
	}
	b.WriteString("<cpix:DRMSystem")
	attr(b, "kid", kid)
	attr(b, "systemId", strings.ToUpper(e.SystemID))
	b.WriteString(">")
	element(b, "cpix:PSSH", "", got.PSSH)
	element(b, "cpix:ContentProtectionData", "", got.ContentProtection)
	element(b, "speke:ProtectionHeader", "", got.Smooth)
	element(b, "cpix:URIExtXKey", "", got.KeyURI)
	element(b, "speke:KeyFormat", "", got.KeyFormat)
	element(b, "speke:KeyFormatVersions", "", got.KeyFormatVersions)
	if got.HLS != nil {
		element(b, "cpix:HLSSignalingData", "", append([]byte("#EXT-X-KEY:"), got.HLS...))
		element(b, "cpix:HLSSignalingData", ` playlist="master"`, append([]byte("#EXT-X-SESSION-KEY:"), got.HLS...))
	}
	b.WriteString("</cpix:DRMSystem>\n")
	return nil
}

func attr(b *strings.Builder, name, value string) {
	b.WriteString(" " + name + `="` + xmltree.Escape(value) + `"`)
}

// element writes an element with the base64 of a value, or nothing without.
func element(b *strings.Builder, name, attrs string, value []byte) {
	if value != nil {
		b.WriteString("<" + name + attrs + ">" + base64.StdEncoding.EncodeToString(value) + "</" + name + ">")
	}
}
