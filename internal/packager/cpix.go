package packager

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
	"spekeasy/internal/widevine"
	"spekeasy/internal/xmltree"
)

// CPIXRequest asks for a content's keys as a CPIX document.
type CPIXRequest struct {
	ContentID string
	Scheme    contentkey.Scheme
	Labels    tenant.Labels // the tenant's own if empty
	Period    string        // index of the key period; "" for content without
	Systems   []string      // names or IDs; by default Widevine, PlayReady and FairPlay as far as they play the scheme
}

// CPIX writes a document with a content's keys, in clear, their signaling and
// a usage rule for each track, as the Shaka Packager that follows 3.4.2 and
// Unified Streaming read it (D-530, D-531). Key periods have no place in it;
// each is a document of its own.
func (p *Provider) CPIX(ctx context.Context, t *tenant.Tenant, r *CPIXRequest) (*Answer, error) {
	a := &ask{contentID: ContentID([]byte(r.ContentID)), scheme: r.Scheme, profile: ProfileCPIX}
	switch {
	case r.ContentID == "" || len(r.ContentID) > maxProgram:
		return nil, &Refused{"a content ID has 1 to 1024 bytes", nil}
	case r.Scheme != contentkey.Cenc && r.Scheme != contentkey.Cbcs:
		return nil, &Refused{"the scheme is neither cenc nor cbcs", nil}
	}
	if r.Period != "" {
		n, err := strconv.ParseUint(r.Period, 10, 32)
		if err != nil {
			return nil, &Refused{"the period is not an index", nil}
		}
		a.periods = []string{index(uint32(n))}
	}
	var err error
	if a.systems, err = systems(t, r); err != nil {
		return nil, err
	}
	labels := r.Labels
	if labels == "" {
		labels = t.CPIXLabels
	}
	switch labels {
	case tenant.LabelsPackager:
		a.tracks = widevine.TrackTypes()
	case tenant.LabelsSPEKE:
		if a.tracks, err = p.labelsOf(ctx, t, a); err != nil {
			return nil, err
		}
	default:
		return nil, &Refused{fmt.Sprintf("labels are %s or %s", tenant.LabelsPackager, tenant.LabelsSPEKE), nil}
	}
	keys, created, err := p.obtain(ctx, t, a)
	if err != nil {
		return nil, err
	}
	body, err := a.document(keys, filters(labels, a.tracks))
	if err != nil {
		return nil, err
	}
	return finish(a, keys, created, body), nil
}

// systems finds the DRM systems that a document is to signal.
func systems(t *tenant.Tenant, r *CPIXRequest) ([]drm.System, error) {
	var all []drm.System
	if len(r.Systems) == 0 {
		for _, id := range []drm.SystemID{widevineID, playReadyID, drm.FairPlay{}.ID()} {
			if s := system(t, id); s != nil && s.Supports(r.Scheme) {
				all = append(all, s)
			}
		}
		return all, nil
	}
	for _, name := range r.Systems {
		i := slices.IndexFunc(t.Policy.V2, func(s drm.System) bool {
			return strings.EqualFold(s.Name(), name) || strings.EqualFold(s.ID().String(), name)
		})
		if i < 0 || !t.Policy.V2[i].Supports(r.Scheme) {
			return nil, &Refused{fmt.Sprintf("%.64q is no DRM system on offer that plays %s", name, r.Scheme), nil}
		}
		if s := t.Policy.V2[i]; !slices.ContainsFunc(all, func(d drm.System) bool { return d.ID() == s.ID() }) {
			all = append(all, s)
		}
	}
	return all, nil
}

// labelsOf returns the track types under which encryptors asked for the
// content. Those that packagers have asked for since are left out where they
// repeat another type's key, or are a key that no encryptor knows.
func (p *Provider) labelsOf(ctx context.Context, t *tenant.Tenant, a *ask) ([]string, error) {
	found := make(map[string]contentkey.KID)
	theirs := make(map[contentkey.KID]bool) // keys under types that only encryptors know
	for page, err := range p.keys.Bindings(ctx, t.ID, a.contentID) {
		if err != nil {
			return nil, fmt.Errorf("bindings of content %q: %w", a.contentID, err)
		}
		for i := range page {
			b := &page[i]
			if b.Scheme != a.scheme && b.Scheme != 0 || !a.fits(b) || b.Track == "" {
				continue
			}
			found[b.Track] = b.KID
			if !slices.Contains(widevine.TrackTypes(), b.Track) {
				theirs[b.KID] = true
			}
		}
	}
	maps.DeleteFunc(found, func(track string, kid contentkey.KID) bool {
		own := kid == a.own(t, slot{track, strings.Join(a.periods, "")})
		return len(theirs) > 0 && slices.Contains(widevine.TrackTypes(), track) && (own || theirs[kid])
	})
	if len(found) == 0 {
		return nil, &Refused{"no track types are on record for this content", nil}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// fits reports whether a binding is of the period that is asked for.
func (a *ask) fits(b *keystore.Binding) bool {
	name := b.Period.Name()
	if a.periods == nil {
		return name == "" || name == "0"
	}
	return slices.Contains(a.periods, name)
}

// document writes the answer.
func (a *ask) document(keys []granted, filter map[string]string) ([]byte, error) {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<cpix:CPIX contentId="` + xmltree.Escape(a.contentID) +
		`" version="2.3" xmlns:cpix="` + cpix.Namespace + `" xmlns:pskc="` + cpix.NamespacePSKC + `">` + "\n<cpix:ContentKeyList>\n")
	distinct := make([]*keystore.Key, 0, len(keys))
	for i := range keys {
		k := &keys[i].Key
		if slices.ContainsFunc(distinct, func(d *keystore.Key) bool { return d.KID == k.KID }) {
			continue
		}
		distinct = append(distinct, k)
		b.WriteString(`<cpix:ContentKey kid="` + k.KID.String() + `"`)
		if a.scheme == contentkey.Cbcs {
			b.WriteString(` explicitIV="` + k.IV.String() + `"`)
		}
		b.WriteString(` commonEncryptionScheme="` + a.scheme.String() + `"></cpix:ContentKey>` + "\n")
	}
	b.WriteString("</cpix:ContentKeyList>\n<cpix:DRMSystemList>\n")
	for _, k := range distinct {
		for _, s := range a.systems {
			if err := a.writeSystem(&b, s, k); err != nil {
				return nil, err
			}
		}
	}
	b.WriteString("</cpix:DRMSystemList>\n<cpix:ContentKeyUsageRuleList>\n")
	for i := range keys {
		b.WriteString(`<cpix:ContentKeyUsageRule kid="` + keys[i].KID.String() + `" intendedTrackType="` + xmltree.Escape(keys[i].track) +
			`">` + filter[keys[i].track] + "</cpix:ContentKeyUsageRule>\n")
	}
	b.WriteString("</cpix:ContentKeyUsageRuleList>\n</cpix:CPIX>\n")
	doc, err := cpix.Parse([]byte(b.String()))
	if err != nil {
		return nil, fmt.Errorf("CPIX for content %q: %w", a.contentID, err)
	}
	for i, k := range distinct {
		doc.SetValue(i, &k.Value, nil)
	}
	body, err := doc.Bytes()
	if err != nil {
		return nil, fmt.Errorf("CPIX for content %q: %w", a.contentID, err)
	}
	return body, nil
}

// writeSystem writes all that a system has to say of a key.
func (a *ask) writeSystem(b *strings.Builder, s drm.System, k *keystore.Key) error {
	want := drm.PSSH | drm.ContentProtection | drm.HLS
	if a.scheme == contentkey.Cenc {
		want |= drm.Smooth // Smooth Streaming has no other scheme (D-250)
	}
	signaled, err := s.Signal(a.track(k), want)
	if err != nil {
		return fmt.Errorf("%s signaling of key ID %s: %w", s.Name(), k.KID, err)
	}
	b.WriteString(`<cpix:DRMSystem kid="` + k.KID.String() + `" systemId="` + s.ID().String() + `">`)
	element := func(start, end string, value ...[]byte) {
		if len(value[len(value)-1]) > 0 {
			b.WriteString("<cpix:" + start + ">" + base64.StdEncoding.EncodeToString(slices.Concat(value...)) + "</cpix:" + end + ">")
		}
	}
	element("PSSH", "PSSH", signaled.PSSH)
	element("ContentProtectionData", "ContentProtectionData", signaled.ContentProtection)
	element(`HLSSignalingData playlist="media"`, "HLSSignalingData", []byte("#EXT-X-KEY:"), signaled.HLS)
	element(`HLSSignalingData playlist="master"`, "HLSSignalingData", []byte("#EXT-X-SESSION-KEY:"), signaled.HLS)
	element("SmoothStreamingProtectionHeaderData", "SmoothStreamingProtectionHeaderData", signaled.Smooth)
	b.WriteString("</cpix:DRMSystem>\n")
	return nil
}

// filters returns the filters of a usage rule by its track type. Shaka
// Packager demands that they agree with its own thresholds, which are the
// defaults of --max_sd_pixels and its siblings (D-531). SPEKE's types have the
// ranges of AWS's presets.
func filters(labels tenant.Labels, tracks []string) map[string]string {
	const sd, hd1, hd, uhd1 = 589_824, 921_600, 2_073_600, 8_847_360
	video := func(low, high int) string {
		text := "<cpix:VideoFilter"
		if low > 0 {
			text += fmt.Sprintf(` minPixels="%d"`, low)
		}
		if high > 0 {
			text += fmt.Sprintf(` maxPixels="%d"`, high)
		}
		return text + "/>"
	}
	const audio = "<cpix:AudioFilter/>"
	if labels == tenant.LabelsPackager {
		const shakaSD = 442_368
		return map[string]string{
			widevine.SD: video(0, shakaSD), widevine.HD: video(shakaSD+1, hd), widevine.UHD1: video(hd+1, uhd1),
			widevine.UHD2: video(uhd1+1, 0), widevine.Audio: audio,
		}
	}
	all := map[string]string{
		"SD": video(0, sd), "SD+HD1": video(0, hd1), "HD1": video(sd+1, hd1), "HD2": video(hd1+1, hd), "HD": video(sd+1, 0),
		"UHD": video(hd+1, 0), "UHD1": video(hd+1, uhd1), "UHD2": video(uhd1+1, 0), "VIDEO": video(0, 0), "AUDIO": audio,
		"STEREO_AUDIO":           `<cpix:AudioFilter maxChannels="2"/>`,
		"MULTICHANNEL_AUDIO":     `<cpix:AudioFilter minChannels="3"/>`,
		"MULTICHANNEL_AUDIO_3_6": `<cpix:AudioFilter minChannels="3" maxChannels="6"/>`,
		"MULTICHANNEL_AUDIO_7":   `<cpix:AudioFilter minChannels="7"/>`,
	}
	if slices.ContainsFunc(tracks, func(s string) bool { return strings.HasPrefix(s, "UHD") }) {
		all["HD"] = video(sd+1, hd)
	}
	return all
}
