package packager

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
	"spekeasy/internal/widevine"
)

// Found is the key of a track type, as it exists.
type Found struct {
	Track string
	KID   contentkey.KID
	Key   contentkey.Value
	IV    contentkey.IV
	PSSH  []byte // Widevine's and PlayReady's boxes
}

// Format hides the key.
func (f Found) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "(%s: key ID %s)", f.Track, f.KID) }

// Find returns those keys of a content that exist, by the track types of
// packagers, and makes none. Without a scheme it is the one that the content
// was asked for under, if there was but one.
func (p *Provider) Find(ctx context.Context, t *tenant.Tenant, contentID string, scheme contentkey.Scheme, period string) ([]Found, contentkey.Scheme, error) {
	a := &ask{contentID: contentID, scheme: scheme, tracks: widevine.TrackTypes()}
	if period != "" {
		a.periods = []string{period}
	}
	if scheme == 0 {
		var err error
		if a.scheme, err = p.onlyScheme(ctx, t, contentID); err != nil {
			return nil, 0, err
		}
	}
	for _, id := range []drm.SystemID{widevineID, playReadyID} {
		if s := system(t, id); s != nil && s.Supports(a.scheme) {
			a.systems = append(a.systems, s)
		}
	}
	slots := a.slots(t)
	kids, err := p.choose(ctx, t, a, slots)
	if err != nil {
		return nil, 0, err
	}
	var found []Found
	for i, kid := range kids {
		keys, err := p.keys.Lookup(ctx, t.ID, []contentkey.KID{kid})
		if errors.Is(err, keystore.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		f := Found{Track: slots[i].track, KID: kid, Key: keys[0].Value, IV: keys[0].IV}
		for _, s := range a.systems {
			signaled, err := s.Signal(a.track(&keys[0]), drm.PSSH)
			if err != nil {
				return nil, 0, fmt.Errorf("%s signaling of key ID %s: %w", s.Name(), kid, err)
			}
			f.PSSH = append(f.PSSH, signaled.PSSH...)
		}
		found = append(found, f)
	}
	if len(found) == 0 {
		return nil, 0, fmt.Errorf("content %q has no keys under %s: %w", contentID, a.scheme, keystore.ErrNotFound)
	}
	return found, a.scheme, nil
}

// onlyScheme finds the scheme of a content.
func (p *Provider) onlyScheme(ctx context.Context, t *tenant.Tenant, contentID string) (scheme contentkey.Scheme, err error) {
	for page, err := range p.keys.Bindings(ctx, t.ID, contentID) {
		if err != nil {
			return 0, fmt.Errorf("bindings of content %q: %w", contentID, err)
		}
		for i := range page {
			switch s := page[i].Scheme; {
			case s == 0 || s == scheme:
			case scheme != 0:
				return 0, fmt.Errorf("content %q was asked for under %s and %s: choose one", contentID, scheme, s)
			default:
				scheme = s
			}
		}
	}
	if scheme == 0 {
		return 0, fmt.Errorf("content %q: %w", contentID, keystore.ErrNotFound)
	}
	return scheme, nil
}

// Tools lists the programs that [Arguments] knows.
func Tools() []string { return []string{"shaka", "bento4", "ffmpeg", "gpac", "mp4ff"} }

// Arguments returns what a program is to be given so that it encrypts with the
// keys: the arguments of its command line, one option on a line, or for gpac
// its file. track chooses one of several keys; shaka takes all of them.
// Programs that want to be told the first IV of cenc get a random one: with
// AES-CTR no two files may begin with the same.
func Arguments(tool string, scheme contentkey.Scheme, keys []Found, track string, random io.Reader) (string, error) {
	switch tool {
	case "shaka":
		return shakaArguments(scheme, keys), nil
	case "bento4", "gpac":
		video, err := oneOf(tool, keys, track, func(f *Found) bool { return f.Track != widevine.Audio })
		if err != nil {
			return "", err
		}
		audio, err := oneOf(tool, keys, "", func(f *Found) bool { return f.Track == widevine.Audio })
		if err != nil {
			return "", err
		}
		if tool == "bento4" {
			return bento4Arguments(scheme, []*Found{video, audio}), nil
		}
		return gpacFile(scheme, []*Found{video, audio}, random)
	case "ffmpeg":
		if scheme != contentkey.Cenc {
			return "", fmt.Errorf("ffmpeg does not encrypt %s", scheme)
		}
		f, err := oneOf(tool, keys, track, nil)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("-encryption_scheme cenc-aes-ctr\n-encryption_key %x\n-encryption_kid %x\n", f.Key[:], f.KID[:]), nil
	case "mp4ff":
		f, err := oneOf(tool, keys, track, nil)
		if err != nil {
			return "", err
		}
		iv, err := firstIV(scheme, f, random)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("-scheme %s\n-kid %x\n-key %x\n-iv %x\n", scheme, f.KID[:], f.Key[:], iv), nil
	}
	return "", fmt.Errorf("%q is none of %s", tool, strings.Join(Tools(), ", "))
}

// oneOf finds the key of a track, or the only one of those that fit.
func oneOf(tool string, keys []Found, track string, fits func(*Found) bool) (*Found, error) {
	var found *Found
	var tracks []string
	several := false
	for i := range keys {
		f := &keys[i]
		if fits != nil && !fits(f) {
			continue
		}
		if f.Track == track {
			return f, nil
		}
		tracks = append(tracks, f.Track)
		several = several || found != nil && found.KID != f.KID
		if found == nil {
			found = f
		}
	}
	switch {
	case track != "":
		return nil, fmt.Errorf("there is no key for track %q, only for %s", track, strings.Join(tracks, ", "))
	case found == nil:
		return nil, fmt.Errorf("%s wants a key for video and one for audio", tool)
	case several:
		return nil, fmt.Errorf("%s takes one key and there are some for %s: choose a track", tool, strings.Join(tracks, ", "))
	}
	return found, nil
}

func shakaArguments(scheme contentkey.Scheme, keys []Found) string {
	same := !slices.ContainsFunc(keys, func(f Found) bool { return f.KID != keys[0].KID })
	if same {
		keys = []Found{keys[0]}
		keys[0].Track = "" // for all tracks
	}
	var list []string
	var pssh []byte
	var seen []contentkey.KID
	for i := range keys {
		f := &keys[i]
		text := fmt.Sprintf("label=%s:key_id=%x:key=%x", f.Track, f.KID[:], f.Key[:])
		if scheme == contentkey.Cbcs {
			text += fmt.Sprintf(":iv=%x", f.IV[:])
		}
		list = append(list, text)
		if !slices.Contains(seen, f.KID) {
			seen = append(seen, f.KID)
			pssh = append(pssh, f.PSSH...)
		}
	}
	return fmt.Sprintf("--enable_raw_key_encryption\n--protection_scheme %s\n--keys %s\n--pssh %s\n",
		scheme, strings.Join(list, ","), hex.EncodeToString(pssh))
}

// bento4Arguments are for mp4encrypt; the first track is video.
func bento4Arguments(scheme contentkey.Scheme, tracks []*Found) string {
	var b strings.Builder
	fmt.Fprintf(&b, "--method MPEG-%s\n", strings.ToUpper(scheme.String()))
	for i, f := range tracks {
		iv := "random"
		if scheme == contentkey.Cbcs {
			iv = hex.EncodeToString(f.IV[:])
		}
		fmt.Fprintf(&b, "--key %d:%x:%s\n--property %d:KID:%x\n", i+1, f.Key[:], iv, i+1, f.KID[:])
	}
	return b.String()
}

// gpacFile is for MP4Box -crypt; the first track is video, of which cbcs
// encrypts one block in ten.
func gpacFile(scheme contentkey.Scheme, tracks []*Found, random io.Reader) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<GPACDRM type="%s">`+"\n", scheme)
	for i, f := range tracks {
		iv, err := firstIV(scheme, f, random)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, `  <CrypTrack trackID="%d" IsEncrypted="1" saiSavedBox="senc"`, i+1)
		switch {
		case scheme == contentkey.Cenc:
			fmt.Fprintf(&b, ` IV_size="8" first_IV="0x%x"`, iv)
		case f.Track == widevine.Audio:
			fmt.Fprintf(&b, ` IV_size="0" constant_IV_size="16" constant_IV="0x%x"`, iv)
		default:
			fmt.Fprintf(&b, ` crypt_byte_block="1" skip_byte_block="9" IV_size="0" constant_IV_size="16" constant_IV="0x%x"`, iv)
		}
		fmt.Fprintf(&b, ">\n    <key KID=\"0x%x\" value=\"0x%x\"/>\n  </CrypTrack>\n", f.KID[:], f.Key[:])
	}
	b.WriteString("</GPACDRM>\n")
	return b.String(), nil
}

// firstIV is the stored IV for cbcs, and 8 random bytes for cenc.
func firstIV(scheme contentkey.Scheme, f *Found, random io.Reader) ([]byte, error) {
	if scheme == contentkey.Cbcs {
		return f.IV[:], nil
	}
	iv := make([]byte, 8)
	if _, err := io.ReadFull(random, iv); err != nil {
		return nil, fmt.Errorf("reading random bytes: %w", err)
	}
	return iv, nil
}
