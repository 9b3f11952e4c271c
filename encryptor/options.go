package encryptor

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"spekeasy/contentkey"
)

// Options says what is to be asked for. Only ContentID is required; the rest
// follows the service.
type Options struct {
	// Service is the encryptor to imitate; MediaConvert by default.
	Service Service

	// Version of SPEKE. By default 2.0 for MediaPackage v2, and for the other
	// services if a preset is named; else 1.0.
	Version Version

	// ContentID is the resource ID that the operator gave the content.
	ContentID string

	// Packaging is CMAF by default for MediaPackage v2, else DASH.
	Packaging Packaging

	// Systems are names from [SystemNames] or UUIDs, in the order of the
	// document. By default those that the service uses for the packaging.
	Systems []string

	// Scheme is the commonEncryptionScheme, v2 only. By default the one that
	// the service and all of the systems can use.
	Scheme string

	// VideoPreset and AudioPreset make the encryption contract, v2 only; see
	// [Tracks]. By default PRESET-VIDEO-1 and PRESET-AUDIO-1.
	VideoPreset, AudioPreset string

	// Periods are the key periods, normally one; see [NewPeriod]. Texts are
	// written as they stand: a Start that is a duration, such as PT1H, becomes
	// startOffset. A period without an ID gets one derived from the content ID
	// and the period's name. By default live services with SPEKE v2 ask for the
	// constant period 0 (S2-SEQ-15) and all others for none.
	Periods []contentkey.Period

	// KIDs are the key IDs, one for each track of each period, periods first.
	// By default they are [KeyID].
	KIDs []contentkey.KID

	// IVs are the explicitIV values, one for each key or one for all. By
	// default live services with SPEKE v2 derive one for each key under cbcs
	// (S2-PAY-13); others send none.
	IVs []contentkey.IV

	// Recipients ask for content key encryption, one DeliveryData for each.
	Recipients []*Recipient

	// Force sends what no service would, such as FairPlay with cenc. What
	// cannot be written at all is refused still.
	Force bool
}

// OptionError says which option cannot be used and why.
type OptionError struct {
	Option string
	Reason string

	// Unusual marks what could be written but no service sends; Options.Force
	// lets it pass.
	Unusual bool
}

func (e *OptionError) Error() string { return e.Option + ": " + e.Reason }

func invalid(option, format string, args ...any) error {
	return &OptionError{Option: option, Reason: fmt.Sprintf(format, args...)}
}

// unusual is the error for what no service sends.
func unusual(option, format string, args ...any) error {
	return &OptionError{Option: option, Reason: fmt.Sprintf(format, args...), Unusual: true}
}

// A plan is options with every default filled in.
type plan struct {
	service    Service
	version    Version
	packaging  Packaging
	contentID  string
	systems    []system
	scheme     string
	tracks     []Track // v2; one without label and filters in v1
	periods    []contentkey.Period
	keys       []plannedKey
	recipients []*Recipient
	offer      *offer // nil for what no service sends
	force      bool
}

type plannedKey struct {
	kid    contentkey.KID
	iv     contentkey.IV
	hasIV  bool
	track  int
	period int // -1 for none
}

// refuse drops an error that Options.Force lets pass.
func (p *plan) refuse(err error) error {
	if p.force {
		return nil
	}
	return err
}

// plan fills in defaults and refuses what cannot be sent.
func (o *Options) plan() (*plan, error) {
	p := &plan{
		service: o.Service, version: o.Version, packaging: o.Packaging, contentID: o.ContentID,
		scheme: o.Scheme, recipients: o.Recipients, force: o.Force,
	}
	for _, step := range [...]func(*plan, *Options) error{
		(*plan).setService, (*plan).setContentID, (*plan).setSystems, (*plan).setScheme,
		(*plan).setTracks, (*plan).setPeriods, (*plan).setKeys, (*plan).setIVs, (*plan).checkRecipients,
	} {
		if err := step(p, o); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *plan) setService(o *Options) error {
	if p.service == "" {
		p.service = MediaConvert
	}
	if p.version == "" {
		p.version = V10
		if p.service == MediaPackageV2 || o.VideoPreset != "" || o.AudioPreset != "" {
			p.version = V20
		}
	}
	if p.packaging == "" {
		p.packaging = DASH
		if p.service == MediaPackageV2 {
			p.packaging = CMAF
		}
	}
	services := []Service{MediaConvert, MediaPackageV1, MediaPackageV1VOD, MediaPackageV2, OnPremises}
	versions := []Version{V10, V20, V21}
	packagings := []Packaging{DASH, HLS, CMAF, Smooth}
	switch {
	case !slices.Contains(services, p.service):
		return invalid("Service", "%q is none of %s", p.service, list(services))
	case !slices.Contains(versions, p.version):
		return invalid("Version", "%q is none of %s", p.version, list(versions))
	case !slices.Contains(packagings, p.packaging):
		return invalid("Packaging", "%q is none of %s", p.packaging, list(packagings))
	}
	if p.offer = findOffer(p.service, p.version, p.packaging); p.offer != nil {
		return nil
	}
	return p.refuse(unusual("Packaging", "%s does not package %s with SPEKE %s", p.service, p.packaging, p.version))
}

func list[T ~string](names []T) string {
	texts := make([]string, len(names))
	for i, n := range names {
		texts[i] = string(n)
	}
	return strings.Join(texts, ", ")
}

func (p *plan) setContentID(*Options) error {
	if strings.TrimSpace(p.contentID) == "" {
		return invalid("ContentID", "is empty")
	}
	if !validText(p.contentID) {
		return invalid("ContentID", "has characters that XML does not allow")
	}
	if p.service != MediaPackageV2 {
		return nil
	}
	plain := len(p.contentID) <= 256
	for _, c := range []byte(p.contentID) {
		plain = plain && (c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-')
	}
	if !plain {
		return p.refuse(unusual("ContentID", "%s has resource IDs of 1 to 256 letters, digits, _ and -", p.service))
	}
	return nil
}

// validText reports whether a text can be written in XML 1.0.
func validText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return false
		}
	}
	return true
}

func (p *plan) setSystems(o *Options) error {
	names := o.Systems
	if len(names) == 0 {
		if p.offer == nil {
			return invalid("Systems", "name at least one")
		}
		names = p.offer.standard
	}
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		s, ok := findSystem(strings.ToLower(name))
		if !ok {
			return invalid("Systems", "%q is neither a UUID nor one of %s", name, list(SystemNames()))
		}
		id := s.idFor(p.version)
		if id == "" {
			return invalid("Systems", "%s has no system ID in SPEKE %s", name, p.version)
		}
		if seen[id] {
			if err := p.refuse(unusual("Systems", "%s is named twice", name)); err != nil {
				return err
			}
		}
		seen[id] = true
		if p.offer != nil && !p.offer.has(id, p.version) {
			if err := p.refuse(unusual("Systems", "%s has no %s for %s with SPEKE %s", p.service, s.label, p.packaging, p.version)); err != nil {
				return err
			}
		}
		p.systems = append(p.systems, s)
	}
	if p.offer != nil && p.offer.most > 0 && len(p.systems) > p.offer.most {
		return p.refuse(unusual("Systems", "%s asks for %d at most for %s with SPEKE %s", p.service, p.offer.most, p.packaging, p.version))
	}
	return nil
}

// has reports whether a line offers the system with that UUID.
func (o *offer) has(id string, v Version) bool {
	return slices.ContainsFunc(o.systems, func(name string) bool {
		s, _ := findSystem(name)
		return s.idFor(v) == id
	})
}

func (p *plan) setScheme(*Options) error {
	if p.version == V10 {
		if p.scheme != "" {
			return invalid("Scheme", "SPEKE 1.0 has no commonEncryptionScheme")
		}
		return nil
	}
	if p.scheme == "" {
		p.scheme = defaultScheme(p.offer, p.systems)
	}
	if _, err := contentkey.ParseScheme(cencName(p.scheme)); err != nil {
		return p.refuse(unusual("Scheme", "%q is not a common encryption scheme", p.scheme))
	}
	if p.version != V21 && cencName(p.scheme) != p.scheme {
		return p.refuse(unusual("Scheme", "%s is a scheme in SPEKE 2.1 only", p.scheme))
	}
	for i := range p.systems {
		if !p.systems[i].plays(p.scheme) {
			return p.refuse(unusual("Scheme", "%s does not go with %s", p.scheme, p.systems[i].label))
		}
	}
	if p.offer != nil && !slices.Contains(p.offer.schemes, cencName(p.scheme)) {
		return p.refuse(unusual("Scheme", "%s packages %s with %s, not %s", p.service, p.packaging, strings.Join(p.offer.schemes, " or "), p.scheme))
	}
	return nil
}

func (p *plan) setTracks(o *Options) error {
	if p.version == V10 {
		if o.VideoPreset != "" || o.AudioPreset != "" {
			return invalid("VideoPreset, AudioPreset", "SPEKE 1.0 has no encryption contract")
		}
		p.tracks = []Track{{}}
		return nil
	}
	v, a := o.VideoPreset, o.AudioPreset
	if v == "" {
		v = "PRESET-VIDEO-1"
		if presetName(a) == Shared {
			v = Shared
		}
	}
	if a == "" {
		a = "PRESET-AUDIO-1"
		if presetName(o.VideoPreset) == Shared {
			a = Shared
		}
	}
	var err error
	p.tracks, err = Tracks(v, a)
	return err
}

func (p *plan) setPeriods(o *Options) error {
	if len(o.Periods) == 0 {
		if p.service.live() && p.version != V10 {
			p.periods = []contentkey.Period{{Index: "0"}}
		}
	} else {
		if err := p.checkPeriods(o.Periods); err != nil {
			return err
		}
		p.periods = slices.Clone(o.Periods)
	}
	ids, names := make(map[string]bool), make(map[string]bool)
	for i := range p.periods {
		d := &p.periods[i]
		name := d.Name()
		if d.ID == "" {
			d.ID = p.periodID(name)
		}
		if ids[d.ID] || names[name] {
			return invalid("Periods", "period %q is named twice", name)
		}
		ids[d.ID], names[name] = true, true
	}
	return nil
}

func (p *plan) checkPeriods(periods []contentkey.Period) error {
	switch {
	case !p.service.live():
		return p.refuse(unusual("Periods", "%s has no key periods", p.service))
	case p.offer != nil && !p.offer.rotation:
		if p.version == V10 {
			return p.refuse(unusual("Periods", "%s does not rotate keys for %s", p.service, p.packaging))
		}
		return p.refuse(unusual("Periods", "%s does not rotate keys under an encryption contract", p.service))
	case len(periods) > 1:
		if err := p.refuse(unusual("Periods", "%s asks for one key period at a time", p.service)); err != nil {
			return err
		}
	}
	for _, d := range periods {
		if d.Name() == "" {
			return invalid("Periods", "a period has neither index, start nor ID")
		}
		if !validText(d.ID + d.Index + d.Start + d.End) {
			return invalid("Periods", "a period has characters that XML does not allow")
		}
		if err := p.checkTiming(d); err != nil {
			return p.refuse(err)
		}
	}
	return nil
}

// checkTiming holds S2-PAY-52, S21-PAY-53 and S21-SEQ-21.
func (p *plan) checkTiming(d contentkey.Period) error {
	switch {
	case p.version != V21 && (d.Start != "" || d.End != ""):
		return unusual("Periods", "start and end need SPEKE 2.1")
	case (d.Start == "") != (d.End == ""):
		return unusual("Periods", "period %q has only one of start and end", d.Name())
	case d.Index == "" && d.Start == "":
		return unusual("Periods", "period %q has neither index nor start", d.Name())
	}
	return nil
}

func (p *plan) setKeys(o *Options) error {
	per := max(len(p.periods), 1)
	n := per * len(p.tracks)
	if len(o.KIDs) != 0 && len(o.KIDs) != n {
		return invalid("KIDs", "%d given for %d content keys", len(o.KIDs), n)
	}
	seen := make(map[contentkey.KID]bool, n)
	for i := range n {
		k := plannedKey{track: i % len(p.tracks), period: i / len(p.tracks)}
		var period contentkey.Period
		if len(p.periods) == 0 {
			k.period = -1
		} else {
			period = p.periods[k.period]
		}
		if len(o.KIDs) != 0 {
			k.kid = o.KIDs[i]
		} else {
			k.kid = KeyID(p.contentID, p.tracks[k.track].Label, period)
		}
		if seen[k.kid] {
			if err := p.refuse(unusual("KIDs", "%s is given twice", k.kid)); err != nil {
				return err
			}
		}
		seen[k.kid] = true
		p.keys = append(p.keys, k)
	}
	return nil
}

func (p *plan) setIVs(o *Options) error {
	switch n := len(o.IVs); {
	case n == 0:
		if !p.service.live() || p.version == V10 || cencName(p.scheme) != "cbcs" {
			return nil
		}
		for i := range p.keys {
			p.keys[i].iv, p.keys[i].hasIV = deriveIV(p.keys[i].kid), true
		}
	case n == 1 || n == len(p.keys):
		for i := range p.keys {
			p.keys[i].iv, p.keys[i].hasIV = o.IVs[min(i, n-1)], true
		}
	default:
		return invalid("IVs", "%d given for %d content keys", n, len(p.keys))
	}
	return nil
}

// checkRecipients holds SX-CKE-11, -12 and -16.
func (p *plan) checkRecipients(*Options) error {
	if len(p.recipients) == 0 {
		return nil
	}
	if !p.service.encrypts() {
		return p.refuse(unusual("Recipients", "%s does not ask for encrypted content keys", p.service))
	}
	for i, r := range p.recipients {
		if r == nil || r.Certificate == nil {
			return invalid("Recipients", "recipient %d has no certificate", i+1)
		}
		if err := p.checkCertificate(r.Certificate); err != nil {
			return p.refuse(err)
		}
	}
	return nil
}

func (p *plan) checkCertificate(c *x509.Certificate) error {
	if bits := rsaBits(c); bits != rsaSize {
		return unusual("Recipients", "the certificate's key is not RSA with %d bits", rsaSize)
	}
	switch c.SignatureAlgorithm {
	case x509.SHA512WithRSA:
		return nil
	case x509.SHA256WithRSA:
		if p.service == MediaPackageV2 {
			return nil
		}
	}
	return unusual("Recipients", "%s takes no certificate signed with %s", p.service, c.SignatureAlgorithm)
}
