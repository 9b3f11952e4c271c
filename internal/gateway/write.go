package gateway

import (
	"strconv"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/internal/xmltree"
	"spekeasy/speke"
)

// writer puts a request, or content keys of it, into another document: of
// another version, with other key IDs or tracks, or to other recipients.
type writer struct {
	req        *speke.Request
	profile    speke.Profile
	kids       []contentkey.KID
	tracks     map[string]string
	periods    bool                // whether key periods are told
	recipients []cpix.DeliveryData // who the content keys are to be encrypted to

	strings.Builder
}

// tag writes a tag with attributes, given as names and values; those with an
// empty value are left out.
func (w *writer) tag(name, end string, attrs ...string) {
	w.WriteString("<" + name)
	for i := 0; i+1 < len(attrs); i += 2 {
		if attrs[i+1] != "" {
			w.WriteString(" " + attrs[i] + `="` + xmltree.Escape(attrs[i+1]) + `"`)
		}
	}
	w.WriteString(end)
}

func (w *writer) v1() bool { return w.profile == speke.V10 }

// versions are the CPIX versions of SPEKE's (S2-VER-05).
var versions = map[speke.Profile]string{speke.V20: "2.3", speke.V21: "2.4"}

// document writes the document of a part. Lists stand in the order of the
// schema, and prefixes are declared on the root.
func (w *writer) document(p *part) string {
	w.Reset()
	root := []string{"contentId", w.req.ContentID, "version", versions[w.profile]}
	if w.v1() {
		root = []string{"id", w.req.ContentID}
	}
	root = append(root, "xmlns:cpix", cpix.Namespace, "xmlns:pskc", cpix.NamespacePSKC)
	if w.v1() {
		root = append(root, "xmlns:speke", cpix.NamespaceSPEKE)
	}
	if len(w.recipients) > 0 {
		root = append(root, "xmlns:ds", cpix.NamespaceDS)
	}
	w.tag("cpix:CPIX", ">", root...)
	w.deliveryData()
	w.WriteString("<cpix:ContentKeyList>")
	for _, i := range p.keys {
		k, scheme, iv := &w.req.Keys[i], "", ""
		if !w.v1() {
			scheme = w.req.Scheme.String()
		}
		if k.HasIV {
			iv = k.IV.String()
		}
		w.tag("cpix:ContentKey", "/>", "kid", w.kids[i].String(), "commonEncryptionScheme", scheme, "explicitIV", iv)
	}
	w.WriteString("</cpix:ContentKeyList><cpix:DRMSystemList>")
	for _, i := range p.systems {
		w.system(&w.req.Systems[i])
	}
	w.WriteString("</cpix:DRMSystemList>")
	w.contract(p)
	w.WriteString("</cpix:CPIX>")
	return w.String()
}

func (w *writer) deliveryData() {
	if len(w.recipients) == 0 {
		return
	}
	w.WriteString("<cpix:DeliveryDataList>")
	for i := range w.recipients {
		d := &w.recipients[i]
		id := d.ID
		if id == "" {
			id = "recipient-" + strconv.Itoa(i+1)
		}
		w.tag("cpix:DeliveryData", "><cpix:DeliveryKey><ds:X509Data><ds:X509Certificate>", "id", id)
		if len(d.Certificates) > 0 {
			w.WriteString(xmltree.Escape(d.Certificates[0]))
		}
		w.WriteString("</ds:X509Certificate></ds:X509Data></cpix:DeliveryKey></cpix:DeliveryData>")
	}
	w.WriteString("</cpix:DeliveryDataList>")
}

// system writes the placeholders for what is wanted of a system. What the
// version has no element for follows from the others: HLS of Widevine and
// PlayReady from their boxes.
func (w *writer) system(s *speke.System) {
	w.tag("cpix:DRMSystem", ">", "kid", w.kids[s.Key].String(), "systemId", systemFor(s.ID(), w.profile))
	boxes := hasBoxes(s.ID())
	uri := s.Want&(drm.HLS|drm.KeyURI|drm.KeyFormat|drm.KeyFormatVersions) != 0
	if s.Want&drm.PSSH != 0 || boxes && s.Want != 0 {
		w.WriteString("<cpix:PSSH/>")
	}
	if s.Want&drm.ContentProtection != 0 {
		w.WriteString("<cpix:ContentProtectionData/>")
	}
	switch {
	case !uri || boxes && w.v1():
	case w.v1():
		w.WriteString("<cpix:URIExtXKey/><speke:KeyFormat/><speke:KeyFormatVersions/>")
	default:
		w.WriteString(`<cpix:HLSSignalingData playlist="media"/><cpix:HLSSignalingData playlist="master"/>`)
	}
	if s.Want&drm.Smooth != 0 {
		name := "cpix:SmoothStreamingProtectionHeaderData"
		if w.v1() {
			name = "speke:ProtectionHeader"
		}
		w.WriteString("<" + name + "/>")
	}
	w.WriteString("</cpix:DRMSystem>")
}

// hasBoxes reports whether a system's signaling is all around its pssh box.
func hasBoxes(id drm.SystemID) bool { return id == widevineID || id == playReadyID }

var (
	widevineID  = drm.Widevine{}.ID()
	playReadyID = drm.PlayReady{}.ID()
	fairPlayID  = drm.FairPlay{}.ID()
)

// contract writes key periods and usage rules. SPEKE v1 has the latter for
// key periods only; a v1 request without any becomes a v2 contract for all
// tracks, which is what its one key is for.
func (w *writer) contract(p *part) {
	doc := w.req.Document()
	if w.periods && len(doc.Periods) > 0 {
		w.WriteString("<cpix:ContentKeyPeriodList>")
		for i := range doc.Periods {
			d := &doc.Periods[i]
			attrs := []string{"id", d.ID, "index", d.Index}
			if w.profile == speke.V21 {
				attrs = append(attrs, "start", d.Start, "end", d.End, "startOffset", d.StartOffset, "endOffset", d.EndOffset)
			}
			w.tag("cpix:ContentKeyPeriod", "/>", attrs...)
		}
		w.WriteString("</cpix:ContentKeyPeriodList>")
	} else if w.v1() {
		return
	}
	w.WriteString("<cpix:ContentKeyUsageRuleList>")
	for _, i := range p.keys {
		written := false
		for j := range doc.UsageRules {
			if kid, err := contentkey.ParseKID(doc.UsageRules[j].KID); err == nil && kid == w.req.Keys[i].KID {
				w.rule(&doc.UsageRules[j], w.kids[i])
				written = true
			}
		}
		if !written && !w.v1() {
			w.tag("cpix:ContentKeyUsageRule", "><cpix:VideoFilter/><cpix:AudioFilter/></cpix:ContentKeyUsageRule>", "kid", w.kids[i].String(), "intendedTrackType", w.track("ALL"))
		}
	}
	w.WriteString("</cpix:ContentKeyUsageRuleList>")
}

func (w *writer) track(name string) string {
	if to, ok := w.tracks[name]; ok {
		return to
	}
	return name
}

var filterNames = map[cpix.FilterKind]string{
	cpix.KeyPeriodFilter: "cpix:KeyPeriodFilter", cpix.VideoFilter: "cpix:VideoFilter", cpix.AudioFilter: "cpix:AudioFilter",
}

func (w *writer) rule(u *cpix.UsageRule, kid contentkey.KID) {
	track := ""
	if !w.v1() {
		track = w.track(u.IntendedTrackType)
		if u.IntendedTrackType == "" {
			track = w.track("ALL")
		}
	}
	w.tag("cpix:ContentKeyUsageRule", ">", "kid", kid.String(), "intendedTrackType", track)
	media := false
	for i := range u.Filters {
		f := &u.Filters[i]
		name := filterNames[f.Kind]
		if name == "" || f.Kind == cpix.KeyPeriodFilter && !w.periods || f.Kind != cpix.KeyPeriodFilter && w.v1() {
			continue
		}
		media = media || f.Kind != cpix.KeyPeriodFilter
		var attrs []string
		for name, value := range f.Attrs {
			attrs = append(attrs, name, value)
		}
		w.tag(name, "/>", attrs...)
	}
	if !media && !w.v1() {
		w.WriteString("<cpix:VideoFilter/><cpix:AudioFilter/>")
	}
	w.WriteString("</cpix:ContentKeyUsageRule>")
}
