package packager_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/internal/keylist"
	"spekeasy/internal/keystore"
	"spekeasy/internal/packager"
	"spekeasy/internal/tenant"
)

func refused(err error) string {
	if e, ok := errors.AsType[*packager.Refused](err); ok {
		return e.Reason
	}
	return ""
}

// TestContentID holds D-511: content IDs are bytes, and two of them are never
// one.
func TestContentID(t *testing.T) {
	all := []string{"movie", "", " ", "Füllfilm", "hex:6d", "hex:", "m\x00", "\xff\xfe", "a b", "a ", "\n", "\x7f", "6d"}
	seen := make(map[string]string)
	for _, in := range all {
		out := packager.ContentID([]byte(in))
		if other, taken := seen[out]; taken {
			t.Errorf("%q and %q are both %q", in, other, out)
		}
		seen[out] = in
		if plain := out == in; plain != (in == "movie" || in == "" || in == "Füllfilm" || in == "a b" || in == "6d") {
			t.Errorf("%q becomes %q", in, out)
		}
	}
	if got := packager.ContentID([]byte{0xff, 0}); got != "hex:ff00" {
		t.Errorf("%q", got)
	}
}

// call is Microsoft's packaging call as Shaka Packager 3.4.2 sends it (D-605).
const call = `<?xml version="1.0" encoding="UTF-8"?><soap:Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/" xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">` +
	`<soap:Body><AcquirePackagingData xmlns="http://schemas.microsoft.com/DRM/2007/03/protocols">` +
	`<challenge xmlns="http://schemas.microsoft.com/DRM/2007/03/protocols/AcquirePackagingData/v1.0">` +
	`<ProtectionSystems><ProtectionSystemId>9A04F079-9840-4286-AB92-E65BE0885F95</ProtectionSystemId></ProtectionSystems>` +
	`<StreamProtectionRequests><StreamInformation><ProgramIdentifier>my &amp; movie</ProgramIdentifier><OffsetFromProgramStart>P0S</OffsetFromProgramStart></StreamInformation></StreamProtectionRequests>` +
	`</challenge></AcquirePackagingData></soap:Body></soap:Envelope>`

func TestPlayReady(t *testing.T) {
	f := start(t)
	tn := build(t, tenant.Settings{})
	// What Shaka Packager looks for: the first of each element.
	element := func(body []byte, name string) string {
		m := regexp.MustCompile("<" + name + ">([^<]*)</" + name + ">").FindSubmatch(body)
		if m == nil {
			t.Fatalf("no %s in %s", name, body)
		}
		return string(m[1])
	}
	for _, scheme := range []contentkey.Scheme{cenc, cbcs} {
		answer, err := f.p.PlayReady(t.Context(), tn, []byte(call), scheme)
		if err != nil {
			t.Fatal(err)
		}
		if answer.ContentID != "my & movie" || answer.Created != 1 || len(answer.KIDs) != 1 || answer.Scheme != scheme {
			t.Errorf("answer %q, %d made, key IDs %v", answer.ContentID, answer.Created, answer.KIDs)
		}
		id, err := contentkey.ParseKID(element(answer.Body, "KeyId"))
		key, keyErr := base64.StdEncoding.DecodeString(element(answer.Body, "KeyData"))
		data, dataErr := base64.StdEncoding.DecodeString(element(answer.Body, "Data"))
		if want := f.value(id); err != nil || keyErr != nil || dataErr != nil || id != answer.KIDs[0] || !bytes.Equal(key, want[:]) {
			t.Errorf("key ID %s: %v %v %v", id, err, keyErr, dataErr)
		}
		if _, err := drm.ParsePlayReadyObject(data); err != nil {
			t.Error(err)
		}
		again, err := f.p.PlayReady(t.Context(), tn, []byte(call), scheme)
		if err != nil || again.Created != 0 || !bytes.Equal(again.Body, answer.Body) {
			t.Errorf("asked again: %d made, %v", again.Created, err)
		}
		// The key is that of all tracks for other packagers.
		if got := f.ask(tn, "my & movie", scheme, nil); got["SD"].KID != id || got["AUDIO"].KID != id {
			t.Errorf("get-content-key has %v", got)
		}
	}
}

// TestPlayReadyOneKey gives SPEKE's key where there is one for all tracks, and
// none where there are several.
func TestPlayReadyOneKey(t *testing.T) {
	tn := build(t, tenant.Settings{})
	for label, want := range map[string]string{"ALL": "", "": "", "VIDEO": "keys for several tracks"} {
		f := start(t)
		f.speke("my & movie", cenc, use{kid(1), label, ""})
		answer, err := f.p.PlayReady(t.Context(), tn, []byte(call), cenc)
		if want != "" {
			if !strings.Contains(refused(err), want) {
				t.Errorf("label %q: %v", label, err)
			}
		} else if err != nil || answer.KIDs[0] != kid(1) {
			t.Errorf("label %q: %v %v", label, answer, err)
		}
	}
}

func TestPlayReadyFaults(t *testing.T) {
	f := start(t)
	tn := build(t, tenant.Settings{})
	for _, c := range []struct{ name, from, to, want string }{
		{"not XML", call[:100], "", "malformed request"},
		{"a DOCTYPE", `<soap:Envelope`, `<!DOCTYPE a><soap:Envelope`, "malformed request"},
		{"no envelope", "soap:Envelope", "soap:Letter", "not a SOAP envelope"},
		{"another call", "AcquirePackagingData>", "AcquireLicense>", "malformed request"},
		{"no call", "soap:Body", "soap:Header", "not an AcquirePackagingData call"},
		{"another system", "9A04F079", "9A04F078", "a protection system other than PlayReady"},
		{"no program", "ProgramIdentifier", "Program", "no ProgramIdentifier"},
		{"empty program", "my &amp; movie", " ", "no ProgramIdentifier"},
		{"long program", "movie", strings.Repeat("m", 1024), "the ProgramIdentifier is too long"},
		{"two programs", "</StreamInformation>", "</StreamInformation><StreamInformation/>", "more than one StreamInformation"},
	} {
		text := strings.ReplaceAll(call, c.from, c.to)
		if _, err := f.p.PlayReady(t.Context(), tn, []byte(text), cenc); refused(err) != c.want || text == call {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	if _, err := f.p.PlayReady(t.Context(), tn, []byte(call), contentkey.Cens); refused(err) == "" {
		t.Errorf("cens: %v", err)
	}
	separate := build(t, tenant.Settings{Contract: tenant.Contract{SeparateAudio: true}})
	if _, err := f.p.PlayReady(t.Context(), separate, []byte(call), cenc); !strings.Contains(refused(err), "audio and video") {
		t.Errorf("a tenant that keeps audio apart: %v", err)
	}
}

// TestCPIX reads a document as the next Shaka Packager does (D-530, D-531):
// keys in clear, boxes of their own system, track types and filters that
// agree, no periods.
func TestCPIX(t *testing.T) {
	f := start(t)
	tn := build(t, tenant.Settings{})
	f.speke("my & movie", cbcs, use{kid(1), "VIDEO", ""}, use{kid(2), "STEREO_AUDIO", ""})
	answer, err := f.p.CPIX(t.Context(), tn, &packager.CPIXRequest{ContentID: "my & movie", Scheme: cbcs})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := cpix.Parse(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if doc.ContentID != "my & movie" || len(doc.ContentKeys) != 2 || len(doc.DRMSystems) != 6 || len(doc.Periods) != 0 || len(doc.DeliveryData) != 0 || answer.Created != 0 {
		t.Errorf("content %q, %d keys, %d systems, %d made", doc.ContentID, len(doc.ContentKeys), len(doc.DRMSystems), answer.Created)
	}
	for i := range doc.ContentKeys {
		k := &doc.ContentKeys[i]
		id, err := contentkey.ParseKID(k.KID)
		value, valueErr := k.Secret.Plain()
		if _, ivErr := contentkey.ParseIV(k.ExplicitIV); err != nil || valueErr != nil || ivErr != nil || value != f.value(id) || k.Scheme != "cbcs" {
			t.Errorf("key ID %s: %v %v %v", k.KID, err, valueErr, ivErr)
		}
	}
	reader, err := keylist.NewCPIXReader(bytes.NewReader(answer.Body), nil) // as `spekeasy keys import` does
	if err != nil {
		t.Fatal(err)
	}
	for range doc.ContentKeys {
		k, err := reader.Read()
		if err != nil || k.Value != f.value(k.KID) || k.ContentID != "my & movie" || k.Scheme != cbcs || !k.HasIV {
			t.Errorf("read as %v, %v", k.KID, err)
		}
	}
	boxes := 0
	for i := range doc.DRMSystems {
		s := &doc.DRMSystems[i]
		for j := range s.Signals {
			if s.Signals[j].Kind != cpix.PSSH {
				continue
			}
			b, err := s.Signals[j].Value()
			if err != nil {
				t.Fatal(err)
			}
			box, err := drm.ParseBox(b)
			if err != nil || box.SystemID.String() != s.SystemID {
				t.Errorf("box of %s in %s: %v", box.SystemID, s.SystemID, err)
			}
			boxes++
		}
	}
	if boxes != 4 { // FairPlay has none
		t.Errorf("%d boxes", boxes)
	}
	if got := rules(doc); got != "SD=1 0-442368, HD=1 442369-2073600, UHD1=1 2073601-8847360, UHD2=1 8847361-, AUDIO=2 audio" {
		t.Errorf("rules %s", got)
	}

	// The label set of encryptors.
	answer, err = f.p.CPIX(t.Context(), tn, &packager.CPIXRequest{ContentID: "my & movie", Scheme: cbcs, Labels: tenant.LabelsSPEKE, Systems: []string{"widevine", "Widevine"}})
	if err != nil {
		t.Fatal(err)
	}
	if doc, err = cpix.Parse(answer.Body); err != nil {
		t.Fatal(err)
	}
	if got := rules(doc); got != "STEREO_AUDIO=2 audio, VIDEO=1 0-" || len(doc.DRMSystems) != 2 {
		t.Errorf("rules %s, %d systems", got, len(doc.DRMSystems))
	}
	byTenant := build(t, tenant.Settings{Packager: tenant.Packager{CPIXLabels: tenant.LabelsSPEKE}})
	if same, err := f.p.CPIX(t.Context(), byTenant, &packager.CPIXRequest{ContentID: "my & movie", Scheme: cbcs, Systems: []string{"edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"}}); err != nil || !bytes.Equal(same.Body, answer.Body) {
		t.Errorf("the tenant's label set: %v", err)
	}
}

// rules tells usage rules as "type=last digit of the key ID, filter".
func rules(doc *cpix.Document) string {
	var out []string
	for i := range doc.UsageRules {
		u := &doc.UsageRules[i]
		text := u.IntendedTrackType + "=" + u.KID[len(u.KID)-1:]
		for j := range u.Filters {
			if u.Filters[j].Kind == cpix.AudioFilter {
				text += " audio"
				continue
			}
			low, _ := u.Filters[j].Attr("minPixels")
			high, _ := u.Filters[j].Attr("maxPixels")
			if low == "" {
				low = "0"
			}
			text += " " + low + "-" + high
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func TestCPIXFaults(t *testing.T) {
	f := start(t)
	tn := build(t, tenant.Settings{})
	for _, c := range []struct {
		ask  packager.CPIXRequest
		want string
	}{
		{packager.CPIXRequest{Scheme: cenc}, "a content ID has 1 to 1024 bytes"},
		{packager.CPIXRequest{ContentID: strings.Repeat("m", 1025), Scheme: cenc}, "a content ID has 1 to 1024 bytes"},
		{packager.CPIXRequest{ContentID: "m"}, "the scheme is neither cenc nor cbcs"},
		{packager.CPIXRequest{ContentID: "m", Scheme: contentkey.Cbc1}, "the scheme is neither cenc nor cbcs"},
		{packager.CPIXRequest{ContentID: "m", Scheme: cenc, Period: "2026-01-01"}, "the period is not an index"},
		{packager.CPIXRequest{ContentID: "m", Scheme: cenc, Labels: "other"}, "labels are packager or speke"},
		{packager.CPIXRequest{ContentID: "m", Scheme: cenc, Labels: tenant.LabelsSPEKE}, "no track types are on record for this content"},
		{packager.CPIXRequest{ContentID: "m", Scheme: cenc, Systems: []string{"marlin"}}, `"marlin" is no DRM system on offer that plays cenc`},
		{packager.CPIXRequest{ContentID: "m", Scheme: cenc, Systems: []string{"fairplay"}}, `"fairplay" is no DRM system on offer that plays cenc`},
	} {
		if _, err := f.p.CPIX(t.Context(), tn, &c.ask); refused(err) != c.want {
			t.Errorf("%+v: %v, want %s", c.ask, err, c.want)
		}
	}
	// A key period is a document of its own.
	one, err := f.p.CPIX(t.Context(), tn, &packager.CPIXRequest{ContentID: "m", Scheme: cenc, Period: "1"})
	two, err2 := f.p.CPIX(t.Context(), tn, &packager.CPIXRequest{ContentID: "m", Scheme: cenc, Period: "2"})
	if err != nil || err2 != nil || len(one.KIDs) != 5 || slices.Contains(two.KIDs, one.KIDs[0]) {
		t.Errorf("two periods: %v, %v", err, err2)
	}
}

// zeros is no randomness at all.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestArguments holds what packaging tools are given.
func TestArguments(t *testing.T) {
	found := func(track string, n byte) packager.Found {
		return packager.Found{Track: track, KID: contentkey.KID{15: n}, Key: contentkey.Value{0: n}, IV: contentkey.IV{7: n}, PSSH: []byte{n}}
	}
	const (
		k1, k2 = "00000000000000000000000000000001", "00000000000000000000000000000002"
		v1, v2 = "01000000000000000000000000000000", "02000000000000000000000000000000"
		i1, i2 = "00000000000000010000000000000000", "00000000000000020000000000000000"
	)
	several := []packager.Found{found("SD", 1), found("HD", 3), found("AUDIO", 2)}
	video := []packager.Found{found("SD", 1), found("HD", 1), found("AUDIO", 2)}
	one := []packager.Found{found("SD", 1), found("HD", 1), found("AUDIO", 1)}
	for _, c := range []struct {
		name, tool string
		scheme     contentkey.Scheme
		keys       []packager.Found
		track      string
		want       string // or part of the error
	}{
		{"one key", "shaka", cenc, one, "", "--enable_raw_key_encryption\n--protection_scheme cenc\n--keys label=:key_id=" + k1 + ":key=" + v1 + "\n--pssh 01\n"},
		{"two keys", "shaka", cbcs, video, "", "--enable_raw_key_encryption\n--protection_scheme cbcs\n--keys label=SD:key_id=" + k1 + ":key=" + v1 + ":iv=" + i1 +
			",label=HD:key_id=" + k1 + ":key=" + v1 + ":iv=" + i1 + ",label=AUDIO:key_id=" + k2 + ":key=" + v2 + ":iv=" + i2 + "\n--pssh 0102\n"},
		{"two keys", "bento4", cbcs, video, "", "--method MPEG-CBCS\n--key 1:" + v1 + ":" + i1 + "\n--property 1:KID:" + k1 + "\n--key 2:" + v2 + ":" + i2 + "\n--property 2:KID:" + k2 + "\n"},
		{"chosen track", "bento4", cenc, several, "SD", "--method MPEG-CENC\n--key 1:" + v1 + ":random\n--property 1:KID:" + k1 + "\n--key 2:" + v2 + ":random\n--property 2:KID:" + k2 + "\n"},
		{"several video keys", "bento4", cenc, several, "", "there are some for SD, HD: choose a track"},
		{"no audio key", "bento4", cenc, several[:1], "", "bento4 wants a key for video and one for audio"},
		{"one key", "ffmpeg", cenc, one, "", "-encryption_scheme cenc-aes-ctr\n-encryption_key " + v1 + "\n-encryption_kid " + k1 + "\n"},
		{"several keys", "ffmpeg", cenc, video, "", "there are some for SD, HD, AUDIO: choose a track"},
		{"cbcs", "ffmpeg", cbcs, one, "", "ffmpeg does not encrypt cbcs"},
		{"cbcs", "mp4ff", cbcs, several, "AUDIO", "-scheme cbcs\n-kid " + k2 + "\n-key " + v2 + "\n-iv " + i2 + "\n"},
		{"cenc", "mp4ff", cenc, one, "", "-scheme cenc\n-kid " + k1 + "\n-key " + v1 + "\n-iv 0000000000000000\n"},
		{"no such track", "mp4ff", cenc, one, "UHD1", `there is no key for track "UHD1", only for SD, HD, AUDIO`},
		{"cenc", "gpac", cenc, one, "", `<?xml version="1.0" encoding="UTF-8"?>
<GPACDRM type="cenc">
  <CrypTrack trackID="1" IsEncrypted="1" saiSavedBox="senc" IV_size="8" first_IV="0x0000000000000000">
    <key KID="0x` + k1 + `" value="0x` + v1 + `"/>
  </CrypTrack>
  <CrypTrack trackID="2" IsEncrypted="1" saiSavedBox="senc" IV_size="8" first_IV="0x0000000000000000">
    <key KID="0x` + k1 + `" value="0x` + v1 + `"/>
  </CrypTrack>
</GPACDRM>
`},
		{"cbcs", "gpac", cbcs, video, "", `<?xml version="1.0" encoding="UTF-8"?>
<GPACDRM type="cbcs">
  <CrypTrack trackID="1" IsEncrypted="1" saiSavedBox="senc" crypt_byte_block="1" skip_byte_block="9" IV_size="0" constant_IV_size="16" constant_IV="0x` + i1 + `">
    <key KID="0x` + k1 + `" value="0x` + v1 + `"/>
  </CrypTrack>
  <CrypTrack trackID="2" IsEncrypted="1" saiSavedBox="senc" IV_size="0" constant_IV_size="16" constant_IV="0x` + i2 + `">
    <key KID="0x` + k2 + `" value="0x` + v2 + `"/>
  </CrypTrack>
</GPACDRM>
`},
		{"other tool", "handbrake", cenc, one, "", `"handbrake" is none of shaka, bento4, ffmpeg, gpac, mp4ff`},
	} {
		got, err := packager.Arguments(c.tool, c.scheme, slices.Clone(c.keys), c.track, zeros{})
		switch {
		case err != nil && !strings.Contains(err.Error(), c.want), err == nil && got != c.want:
			t.Errorf("%s for %s: %s, %v", c.name, c.tool, got, err)
		case err != nil && strings.HasSuffix(c.want, "\n"):
			t.Errorf("%s for %s: %v", c.name, c.tool, err)
		}
	}
	if one[0].Track != "SD" {
		t.Error("the caller's keys were changed")
	}
}

// TestFind finds keys and makes none.
func TestFind(t *testing.T) {
	f := start(t)
	tn := build(t, tenant.Settings{})
	f.speke("movie", cbcs, use{kid(1), "VIDEO", ""})
	found, scheme, err := f.p.Find(t.Context(), tn, "movie", 0, "")
	if err != nil || scheme != cbcs || len(found) != 4 || found[3].KID != kid(1) || found[3].Track != "UHD2" || found[3].Key != f.value(kid(1)) {
		t.Errorf("%v %s %v", found, scheme, err)
	}
	if boxes, err := drm.ParseBoxes(found[0].PSSH); err != nil || len(boxes) != 2 {
		t.Errorf("%d boxes, %v", len(boxes), err)
	}
	for name, ask := range map[string]struct {
		content string
		scheme  contentkey.Scheme
		period  string
	}{"content": {"other", 0, ""}, "scheme": {"movie", cenc, ""}, "period": {"movie", cbcs, "7"}, "content and scheme": {"other", cbcs, ""}} {
		if _, _, err := f.p.Find(t.Context(), tn, ask.content, ask.scheme, ask.period); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	f.speke("movie", cenc, use{kid(2), "VIDEO", ""})
	if _, _, err := f.p.Find(t.Context(), tn, "movie", 0, ""); err == nil || !strings.Contains(err.Error(), "choose one") {
		t.Errorf("two schemes: %v", err)
	}
}

// FuzzPlayReady holds that no call breaks the parser or has a key made that it
// did not name.
func FuzzPlayReady(f *testing.F) {
	f.Add([]byte(call))
	tn, err := (&tenant.Settings{ID: "acme"}).Build()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		answer, err := packager.New(nothing{}).PlayReady(t.Context(), tn, body, cenc)
		if err == nil {
			t.Fatalf("answered %s", answer.Body)
		}
		if refused(err) == "" && !errors.Is(err, errNothing) {
			t.Fatal(err)
		}
	})
}
