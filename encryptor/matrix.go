package encryptor

import "slices"

// An offer is one line of what the services can send, as AWS's guides list it.
type offer struct {
	service   Service
	version   Version // V20 stands for V21 too where the service speaks it
	packaging Packaging
	systems   []string // may be asked for
	standard  []string // are asked for when nothing is said
	most      int      // systems in one request; 0 for no bound
	schemes   []string // v2; the first is for systems that play several
	rotation  bool     // key periods other than a constant one
}

var (
	widevinePlayReady = []string{"widevine", "playready"}
	fairPlay          = []string{"fairplay"}
	playReady         = []string{"playready"}
	fairPlayAES       = []string{"fairplay", "aes-128"}
	widevineFairPlay  = []string{"widevine", "fairplay"}
	studio            = []string{"fairplay", "widevine", "playready"}
	boxed             = []string{"widevine", "playready", "irdeto"}
	ctr               = []string{"cenc"}
	cbc               = []string{"cbcs"}
	both              = []string{"cenc", "cbcs"}
)

var offers = [...]offer{
	{MediaConvert, V10, DASH, widevinePlayReady, widevinePlayReady, 2, nil, false},
	{MediaConvert, V10, HLS, fairPlay, fairPlay, 1, nil, false},
	{MediaConvert, V10, CMAF, studio, studio, 3, nil, false},
	{MediaConvert, V10, Smooth, playReady, playReady, 1, nil, false},
	{MediaConvert, V20, DASH, widevinePlayReady, widevinePlayReady, 2, ctr, false},
	{MediaConvert, V20, HLS, studio, fairPlay, 3, cbc, false},
	{MediaConvert, V20, CMAF, studio, studio, 3, both, false},

	{MediaPackageV1, V10, DASH, widevinePlayReady, widevinePlayReady, 0, nil, true},
	{MediaPackageV1, V10, HLS, fairPlayAES, fairPlay, 1, nil, true},
	{MediaPackageV1, V10, CMAF, widevineFairPlay, widevineFairPlay, 0, nil, true},
	{MediaPackageV1, V10, Smooth, playReady, playReady, 0, nil, false},
	{MediaPackageV1, V20, DASH, boxed, widevinePlayReady, 0, ctr, false},
	{MediaPackageV1, V20, CMAF, studio, studio, 0, both, false},

	{MediaPackageV1VOD, V10, DASH, widevinePlayReady, widevinePlayReady, 0, nil, false},
	{MediaPackageV1VOD, V10, HLS, fairPlayAES, fairPlay, 1, nil, false},
	{MediaPackageV1VOD, V10, CMAF, widevineFairPlay, widevineFairPlay, 0, nil, false},
	{MediaPackageV1VOD, V10, Smooth, playReady, playReady, 0, nil, false},
	{MediaPackageV1VOD, V20, DASH, boxed, widevinePlayReady, 0, ctr, false},
	{MediaPackageV1VOD, V20, CMAF, studio, studio, 0, cbc, false},

	{MediaPackageV2, V20, CMAF, append(studio[:3:3], "irdeto"), studio, 4, both, true},
	{MediaPackageV2, V20, HLS, fairPlayAES, fairPlay, 4, []string{"cbcs", "cbc1"}, true},
	{MediaPackageV2, V20, Smooth, playReady, playReady, 4, ctr, true},

	{OnPremises, V10, DASH, widevinePlayReady, widevinePlayReady, 0, nil, true},
	{OnPremises, V10, HLS, fairPlayAES, fairPlay, 1, nil, true},
	{OnPremises, V10, CMAF, fairPlayAES, fairPlay, 1, nil, true},
	{OnPremises, V10, Smooth, playReady, playReady, 0, nil, false},
}

// findOffer returns the line for a service, version and packaging, or nil.
func findOffer(s Service, v Version, p Packaging) *offer {
	if v == V21 {
		if s != MediaPackageV2 {
			return nil
		}
		v = V20
	}
	for i := range offers {
		if o := &offers[i]; o.service == s && o.version == v && o.packaging == p {
			return o
		}
	}
	return nil
}

// live reports whether a service asks for key periods at all (SX-SEQ-02).
func (s Service) live() bool { return s != MediaConvert && s != MediaPackageV1VOD }

// encrypts reports whether a service can ask for encrypted content keys
// (SX-CKE-16).
func (s Service) encrypts() bool {
	return s == MediaConvert || s == MediaPackageV1 || s == MediaPackageV2
}

// defaultScheme chooses the commonEncryptionScheme when nothing is said: one
// that all of the systems play and, if it can be, that the line offers.
func defaultScheme(o *offer, chosen []system) string {
	plays := func(scheme string) bool {
		return !slices.ContainsFunc(chosen, func(s system) bool { return !s.plays(scheme) })
	}
	if o != nil {
		if i := slices.IndexFunc(o.schemes, plays); i >= 0 {
			return o.schemes[i]
		}
	}
	for _, scheme := range [...]string{"cenc", "cbcs", "cbc1"} {
		if plays(scheme) {
			return scheme
		}
	}
	return "cenc"
}
