// Package encryptor is the asking side of SPEKE: it builds the key requests
// that AWS MediaConvert, MediaPackage and Elemental encoders send, sends them
// to a key provider, and reads and checks the answers as an encryptor must.
//
// [Options.Build] writes a request; [ReadRequest] takes one that somebody
// else wrote. [Client.Do] sends it and returns an [Answer], whose
// [Answer.Check] lists everything in which the answer breaks the rules. The
// same options give the same document for ever: key IDs and period IDs are
// made from names (see [KeyID]), not from chance.
//
// The checks parse pssh boxes, PlayReady objects and HLS tags with code of
// their own. A checker that shared it with the writer of the answers would
// not find the writer's faults.
//
// Rule numbers in the comments and in [Violation], such as S2-ERR-20, are
// those of docs/conformance.md.
package encryptor

// Service is an encryptor whose requests are imitated.
type Service string

// The services. MediaPackageV1 is its live half.
const (
	MediaConvert      Service = "mediaconvert"
	MediaPackageV1    Service = "mediapackage-v1"
	MediaPackageV1VOD Service = "mediapackage-v1-vod"
	MediaPackageV2    Service = "mediapackage-v2"
	OnPremises        Service = "onprem" // AWS Elemental Live, Server and Delta
)

// Version is a version of SPEKE.
type Version string

// The versions.
const (
	V10 Version = "1.0" // CPIX 2.0, no header, no CPIX@version
	V20 Version = "2.0" // CPIX 2.3
	V21 Version = "2.1" // CPIX 2.4
)

// cpix returns the CPIX@version that belongs to a version of SPEKE
// (S2-VER-05).
func (v Version) cpix() string {
	switch v {
	case V20:
		return "2.3"
	case V21:
		return "2.4"
	}
	return ""
}

// Packaging is what the encryptor makes of the content.
type Packaging string

// The packagings. HLS stands for transport stream segments.
const (
	DASH   Packaging = "dash"
	HLS    Packaging = "hls"
	CMAF   Packaging = "cmaf" // fragmented MP4 with HLS and DASH manifests
	Smooth Packaging = "smooth"
)

// Header names and the media type of SPEKE.
const (
	headerVersion     = "X-Speke-Version"
	headerUserAgent   = "X-Speke-User-Agent" // of answers, v2
	headerUserAgentV1 = "Speke-User-Agent"   // of answers, v1
	contentType       = "application/xml"
)
