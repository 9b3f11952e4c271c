package encryptor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/cpix"
)

func certificateOf(t *testing.T, r *Request) *x509.Certificate {
	t.Helper()
	c, err := cpix.ParseCertificate(r.doc.DeliveryData[0].Certificates[0])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ecRecipient has a certificate that content keys cannot be encrypted to.
func ecRecipient(t *testing.T) *Recipient {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Recipient{Certificate: c}
}

// signedWith returns a recipient whose certificate says that it was signed so.
func signedWith(r *Recipient, a x509.SignatureAlgorithm) *Recipient {
	c := *r.Certificate
	c.SignatureAlgorithm = a
	return &Recipient{Certificate: &c}
}

func TestBuildRefuses(t *testing.T) {
	recipient, err := NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	one := []contentkey.Period{{Index: "1"}}
	kid := kids("6f1c2b9e-0d4a-4c7b-8e35-91a2b3c4d5e6")[0]
	iv := ivs("ABEiM0RVZneImaq7zN3u/w==")[0]
	for _, test := range []struct {
		name    string
		options Options
		want    string
		forced  bool // Force sends it
	}{
		{"unknown service", Options{Service: "shaka"}, `Service: "shaka" is none of mediaconvert, mediapackage-v1, mediapackage-v1-vod, mediapackage-v2, onprem`, false},
		{"unknown version", Options{Version: "3.0"}, `Version: "3.0" is none of 1.0, 2.0, 2.1`, false},
		{"unknown packaging", Options{Packaging: "mpeg"}, `Packaging: "mpeg" is none of dash, hls, cmaf, smooth`, false},
		{"MediaPackage v2 with 1.0", Options{Service: MediaPackageV2, Version: V10, Systems: []string{"widevine"}}, "Packaging: mediapackage-v2 does not package cmaf with SPEKE 1.0", true},
		{"MediaPackage v2 with DASH", Options{Service: MediaPackageV2, Packaging: DASH, Systems: []string{"widevine"}}, "Packaging: mediapackage-v2 does not package dash with SPEKE 2.0", true},
		{"MediaConvert with 2.1", Options{Version: V21, Systems: []string{"widevine"}}, "Packaging: mediaconvert does not package dash with SPEKE 2.1", true},
		{"MediaConvert Smooth with 2.0", Options{Version: V20, Packaging: Smooth, Systems: []string{"playready"}}, "Packaging: mediaconvert does not package smooth with SPEKE 2.0", true},
		{"on-premises with 2.0", Options{Service: OnPremises, Version: V20, Systems: []string{"widevine"}}, "Packaging: onprem does not package dash with SPEKE 2.0", true},
		{"no content ID", Options{ContentID: " "}, "ContentID: is empty", false},
		{"content ID that XML has no way to write", Options{ContentID: "a\x00b"}, "ContentID: has characters that XML does not allow", false},
		{"content ID that is not UTF-8", Options{ContentID: "a\xff"}, "ContentID: has characters that XML does not allow", false},
		{"resource ID of MediaPackage v2", Options{Service: MediaPackageV2, ContentID: "a/b"}, "ContentID: mediapackage-v2 has resource IDs of 1 to 256 letters, digits, _ and -", true},
		{"resource ID too long", Options{Service: MediaPackageV2, ContentID: strings.Repeat("a", 257)}, "ContentID: mediapackage-v2 has resource IDs of 1 to 256 letters, digits, _ and -", true},
		{"unknown system", Options{Systems: []string{"nagra"}}, `Systems: "nagra" is neither a UUID nor one of widevine, playready, fairplay, aes-128, sample-aes, clearkey, common, irdeto`, false},
		{"system twice", Options{Systems: []string{"widevine", "EDEF8BA9-79D6-4ACE-A3C8-27DCD51D21ED"}}, "Systems: EDEF8BA9-79D6-4ACE-A3C8-27DCD51D21ED is named twice", true},
		{"system without ID in 1.0", Options{Systems: []string{"irdeto"}}, "Systems: irdeto has no system ID in SPEKE 1.0", false},
		{"system of another packaging", Options{Systems: []string{"fairplay"}}, "Systems: mediaconvert has no FairPlay for dash with SPEKE 1.0", true},
		{"too many systems", Options{Service: MediaPackageV1, Packaging: HLS, Systems: []string{"fairplay", "aes-128"}}, "Systems: mediapackage-v1 asks for 1 at most for hls with SPEKE 1.0", true},
		{"scheme in 1.0", Options{Scheme: "cenc"}, "Scheme: SPEKE 1.0 has no commonEncryptionScheme", false},
		{"unknown scheme", Options{Version: V20, Scheme: "aes"}, `Scheme: "aes" is not a common encryption scheme`, true},
		{"HLS name in 2.0", Options{Service: MediaPackageV2, Systems: []string{"fairplay"}, Scheme: "SAMPLE-AES"}, "Scheme: SAMPLE-AES is a scheme in SPEKE 2.1 only", true},
		{"FairPlay with cenc", Options{Service: MediaPackageV2, Systems: []string{"fairplay"}, Scheme: "cenc"}, "Scheme: cenc does not go with FairPlay", true},
		{"FairPlay with Irdeto", Options{Service: MediaPackageV2, Systems: []string{"fairplay", "irdeto"}}, "Scheme: cenc does not go with FairPlay", true},
		{"cens", Options{Service: MediaPackageV2, Systems: []string{"widevine"}, Scheme: "cens"}, "Scheme: cens does not go with Widevine", true},
		{"DASH with cbcs", Options{Version: V20, Scheme: "cbcs"}, "Scheme: mediaconvert packages dash with cenc, not cbcs", true},
		{"VOD CMAF with cenc", Options{Service: MediaPackageV1VOD, Version: V20, Packaging: CMAF, Systems: []string{"widevine"}, Scheme: "cenc"}, "Scheme: mediapackage-v1-vod packages cmaf with cbcs, not cenc", true},
		{"presets in 1.0", Options{Service: MediaPackageV1, Version: V10, VideoPreset: "PRESET-VIDEO-1"}, "VideoPreset, AudioPreset: SPEKE 1.0 has no encryption contract", false},
		{"unknown video preset", Options{VideoPreset: "PRESET-VIDEO-9"}, `VideoPreset: "PRESET-VIDEO-9" is no preset: use PRESET-VIDEO- and a number, SHARED or UNENCRYPTED`, false},
		{"audio preset for video", Options{VideoPreset: "PRESET-AUDIO-1"}, `VideoPreset: "PRESET-AUDIO-1" is no preset: use PRESET-VIDEO- and a number, SHARED or UNENCRYPTED`, false},
		{"SHARED with UNENCRYPTED", Options{VideoPreset: Shared, AudioPreset: Unencrypted}, "VideoPreset, AudioPreset: SHARED and UNENCRYPTED exclude each other", false},
		{"SHARED for one", Options{VideoPreset: Shared, AudioPreset: "PRESET-AUDIO-1"}, "VideoPreset, AudioPreset: SHARED must be named for video and audio together", false},
		{"UNENCRYPTED for both", Options{VideoPreset: Unencrypted, AudioPreset: Unencrypted}, "VideoPreset, AudioPreset: UNENCRYPTED for video and audio leaves nothing to encrypt", false},
		{"periods of VOD", Options{Periods: one}, "Periods: mediaconvert has no key periods", true},
		{"MediaPackage v1 contract with rotation", Options{Service: MediaPackageV1, Version: V20, Periods: one}, "Periods: mediapackage-v1 does not rotate keys under an encryption contract", true},
		{"Smooth with rotation", Options{Service: MediaPackageV1, Packaging: Smooth, Periods: one}, "Periods: mediapackage-v1 does not rotate keys for smooth", true},
		{"two periods at once", Options{Service: MediaPackageV2, Periods: []contentkey.Period{{Index: "1"}, {Index: "2"}}}, "Periods: mediapackage-v2 asks for one key period at a time", true},
		{"one period twice", Options{Service: MediaPackageV2, Force: true, Periods: []contentkey.Period{{Index: "1"}, {Index: "1"}}}, `Periods: period "1" is named twice`, false},
		{"period without a name", Options{Service: MediaPackageV2, Periods: []contentkey.Period{{}}}, "Periods: a period has neither index, start nor ID", false},
		{"period ID that XML has no way to write", Options{Service: MediaPackageV2, Periods: []contentkey.Period{{ID: "\x01"}}}, "Periods: a period has characters that XML does not allow", false},
		{"times in 2.0", Options{Service: MediaPackageV2, Periods: []contentkey.Period{{Index: "1", Start: "2026-01-01T00:00:00Z", End: "2026-01-01T00:05:00Z"}}}, "Periods: start and end need SPEKE 2.1", true},
		{"start without end", Options{Service: MediaPackageV2, Version: V21, Periods: []contentkey.Period{{Index: "1", Start: "2026-01-01T00:00:00Z"}}}, `Periods: period "1" has only one of start and end`, true},
		{"neither index nor start", Options{Service: MediaPackageV2, Periods: []contentkey.Period{{ID: "p"}}}, `Periods: period "p" has neither index nor start`, true},
		{"too few key IDs", Options{Version: V20, KIDs: []contentkey.KID{kid}}, "KIDs: 1 given for 2 content keys", false},
		{"key ID twice", Options{Version: V20, KIDs: []contentkey.KID{kid, kid}}, "KIDs: 6f1c2b9e-0d4a-4c7b-8e35-91a2b3c4d5e6 is given twice", true},
		{"too many IVs", Options{IVs: []contentkey.IV{iv, iv}}, "IVs: 2 given for 1 content keys", false},
		{"encryption of VOD", Options{Service: MediaPackageV1VOD, Recipients: []*Recipient{recipient}}, "Recipients: mediapackage-v1-vod does not ask for encrypted content keys", true},
		{"recipient without certificate", Options{Recipients: []*Recipient{{}}}, "Recipients: recipient 1 has no certificate", false},
		{"certificate that is not RSA", Options{Recipients: []*Recipient{ecRecipient(t)}}, "Recipients: the certificate's key is not RSA with 2048 bits", true},
		{"certificate signed with SHA-256", Options{Service: MediaPackageV1, Recipients: []*Recipient{signedWith(recipient, x509.SHA256WithRSA)}}, "Recipients: mediapackage-v1 takes no certificate signed with SHA256-RSA", true},
		{"certificate signed with SHA-1", Options{Service: MediaPackageV2, Recipients: []*Recipient{signedWith(recipient, x509.SHA1WithRSA)}}, "Recipients: mediapackage-v2 takes no certificate signed with SHA1-RSA", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := test.options
			if o.ContentID == "" {
				o.ContentID = "movie"
			}
			_, err := o.Build()
			e, ok := errors.AsType[*OptionError](err)
			if !ok || err.Error() != test.want || e.Unusual != test.forced {
				t.Fatalf("got  %v (forced %t)\nwant %s (forced %t)", err, ok && e.Unusual, test.want, test.forced)
			}
			o.Force = true
			if _, err := o.Build(); (err == nil) != test.forced {
				t.Errorf("with Force: %v", err)
			}
		})
	}
}

func TestMediaPackageV2TakesSHA256Certificates(t *testing.T) {
	recipient, err := NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Service: MediaPackageV2, ContentID: "movie", Recipients: []*Recipient{signedWith(recipient, x509.SHA256WithRSA)}}
	if _, err := o.Build(); err != nil {
		t.Error(err)
	}
}
