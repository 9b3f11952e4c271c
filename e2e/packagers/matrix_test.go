//go:build linux

// Package packagers_test proves keys by playing them: content keys go from a
// running server to Shaka Packager, which encrypts a clip; two programs that
// know nothing of each other decrypt it, and the frames must be those of the
// clear clip. The programs are installed by scripts/testdeps.sh.
package packagers_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
	"spekeasy/internal/widevine"
)

// keySet is how many keys a content has.
type keySet string

const (
	oneKey     keySet = "one key"
	audioVideo keySet = "audio and video keys"
	rotation   keySet = "three periods"
)

// TestMatrix packages with keys of every protocol, scheme and key set.
//
// SPEKE v1 knows one key per request, so that audio and video are two
// contents. With keys from SPEKE each period is a run of the packager of its
// own, over its third of the clip: Shaka Packager rotates only keys that it
// fetches itself. Get-content-key always gives a key for each type of track;
// one key for all is what SPEKE has given to the content before.
func TestMatrix(t *testing.T) {
	b := newBench(t)
	for _, scheme := range []contentkey.Scheme{contentkey.Cenc, contentkey.Cbcs} {
		for _, set := range []keySet{oneKey, audioVideo, rotation} {
			for _, version := range []encryptor.Version{encryptor.V10, encryptor.V20, encryptor.V21} {
				t.Run(fmt.Sprintf("SPEKE %s/%s/%s", version, scheme, set), func(t *testing.T) {
					t.Parallel()
					speke(t, b, version, scheme, set)
				})
			}
			t.Run(fmt.Sprintf("get-content-key/%s/%s", scheme, set), func(t *testing.T) {
				t.Parallel()
				getContentKey(t, b, scheme, set)
			})
		}
	}
}

// request is what an encryptor asks for in a cell of the matrix.
func request(version encryptor.Version, scheme contentkey.Scheme, set keySet) encryptor.Options {
	o := encryptor.Options{
		Version: version, Service: encryptor.MediaPackageV2, Packaging: encryptor.CMAF, Scheme: scheme.String(),
		Systems: []string{"widevine", "playready"}, VideoPreset: encryptor.Shared, AudioPreset: encryptor.Shared,
		ContentID: strings.NewReplacer(" ", "-", ".", "").Replace(fmt.Sprintf("speke-%s-%s-%s", version, scheme, set)),
	}
	if set == audioVideo {
		o.VideoPreset, o.AudioPreset = "PRESET-VIDEO-1", "PRESET-AUDIO-1"
	}
	if version == encryptor.V10 { // the scheme follows from the systems (S1-PAY-14)
		o.Scheme, o.VideoPreset, o.AudioPreset = "", "", ""
		o.Service, o.Packaging = encryptor.MediaPackageV1, encryptor.DASH
		if scheme == contentkey.Cbcs {
			o.Packaging, o.Systems = encryptor.CMAF, []string{"widevine", "fairplay"}
		}
	}
	return o
}

// speke is a cell whose keys come from SPEKE.
func speke(t *testing.T, b *bench, version encryptor.Version, scheme contentkey.Scheme, set keySet) {
	o := request(version, scheme, set)
	if set == rotation {
		var seen []contentkey.KID
		for i, part := range b.parts {
			period := contentkey.Period{Index: fmt.Sprint(i + 1)}
			if version == encryptor.V21 {
				var err error
				start := time.Date(2026, 1, 1, 0, i, 0, 0, time.UTC)
				if period, err = encryptor.NewPeriod(encryptor.IndexWithStartEnd, uint32(i+1), start, start.Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
			}
			o.Periods = []contentkey.Period{period}
			k := b.ask(t, &o)[0]
			if slices.Contains(seen, k.KID) {
				t.Fatalf("period %d has the key ID of another", i+1)
			}
			seen = append(seen, k.KID)
			b.packageRaw(t, part, scheme, rawKeys{"": k})
		}
		return
	}
	keys := b.ask(t, &o)
	switch {
	case set == oneKey:
		if len(keys) != 1 {
			t.Fatalf("%d keys", len(keys))
		}
		b.packageRaw(t, b.clip, scheme, rawKeys{"": keys[0]})
	case version == encryptor.V10:
		audio := o
		audio.ContentID += "-audio"
		b.packageRaw(t, b.clip, scheme, rawKeys{"SD": keys[0], "AUDIO": b.ask(t, &audio)[0]})
	default:
		byTrack := make(rawKeys)
		for _, k := range keys {
			byTrack[map[string]string{"VIDEO": "SD", "AUDIO": "AUDIO"}[k.Uses[0].Track]] = k
		}
		if len(byTrack) != 2 || byTrack["SD"].KID == byTrack["AUDIO"].KID {
			t.Fatalf("keys for tracks %v", byTrack)
		}
		b.packageRaw(t, b.clip, scheme, byTrack)
	}
}

// getContentKey is a cell in which the packager fetches its keys itself.
func getContentKey(t *testing.T, b *bench, scheme contentkey.Scheme, set keySet) {
	o := request(encryptor.V20, scheme, set)
	o.ContentID = strings.Replace(o.ContentID, "speke-20", "gck", 1)
	var args []string
	count := uint32(0)
	switch set {
	case oneKey: // as an encryptor was given it
		o.Periods = []contentkey.Period{{Index: "0"}}
		given := b.ask(t, &o)[0]
		for _, track := range b.contentKeys(t, o.ContentID, scheme, 0) {
			if track.KID != given.KID || track.Key != given.Value {
				t.Fatalf("track %s has key ID %s, SPEKE's is %s", track.Type, track.KID, given.KID)
			}
		}
	case rotation:
		args, count = []string{"--crypto_period_duration", "2"}, 3
	}
	out := b.pack(t, b.clip, append(args,
		"--enable_widevine_encryption", "--key_server_url", b.url+"/cenc/getcontentkey/dev",
		"--content_id", hex.EncodeToString([]byte(o.ContentID)), "--protection_scheme", scheme.String(),
		"--signer", "dev", "--aes_signing_key", signingKey, "--aes_signing_iv", signingIV)...)

	keys := make(keyring)
	for _, track := range b.contentKeys(t, o.ContentID, scheme, count) {
		keys[track.KID] = track.Key
	}
	used := out.check(t, b, b.clip, keys)
	want := map[keySet]int{oneKey: 1, audioVideo: 2, rotation: 6}[set]
	if len(used) != want {
		t.Errorf("%d key IDs in the media, want %d: %v", len(used), want, used)
	}
}

// TestDecrypting has the packager decrypt with keys that it fetches by the
// pssh box of what another run of it encrypted.
func TestDecrypting(t *testing.T) {
	b := newBench(t)
	signed := []string{
		"--key_server_url", b.url + "/cenc/getcontentkey/dev", "--signer", "dev",
		"--aes_signing_key", signingKey, "--aes_signing_iv", signingIV,
	}
	out := b.pack(t, b.clip, append(signed, "--enable_widevine_encryption", "--content_id", "6d792d6d6f766965", "--protection_scheme", "cbcs")...)
	again := out.repack(t, b, append(signed, "--enable_widevine_decryption")...)
	again.same(t, b, b.clip, "packager by Widevine decryption")
}

// TestRefusals hears from the packager itself why it was refused.
func TestRefusals(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		name, path, signer, key, content, want string
		more                                   []string
	}{
		{"wrong key", "dev", "dev", strings.Repeat("ab", 32), "6d", string(widevine.SignatureFailed), nil},
		{"unknown signer", "dev", "somebody", signingKey, "6d", string(widevine.SignatureFailed), nil},
		{"another provider", "acme", "dev", signingKey, "6d", string(widevine.AccessDenied), nil},
		{"entitlement licences", "dev", "dev", signingKey, "6d", string(widevine.AccessDenied), []string{"--enable_entitlement_license"}},
		{"scheme that Widevine does not play", "dev", "dev", signingKey, "6d", string(widevine.MalformedRequest), []string{"--protection_scheme", "cens"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			said := b.refused(t, append(c.more,
				"--enable_widevine_encryption", "--key_server_url", b.url+"/cenc/getcontentkey/"+c.path, "--content_id", c.content,
				"--signer", c.signer, "--aes_signing_key", c.key, "--aes_signing_iv", signingIV)...)
			body, err := widevine.Refusal(widevine.Status(c.want))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(said, string(body)) {
				t.Errorf("the packager said\n%s", said)
			}
		})
	}
}
