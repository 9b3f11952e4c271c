//go:build linux

package packagers_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
	"spekeasy/internal/app"
	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/filekey"
	"spekeasy/internal/store/sqlite"
	"spekeasy/internal/widevine"
)

const (
	signingKey = config.DevSigningKey
	signingIV  = config.DevSigningIV
)

// bench is a running server and a clip to package.
type bench struct {
	url    string
	keys   *keystore.Keystore
	shaka  string   // the packager
	clip   string   // 6 s of video and audio, a key frame each second
	parts  []string // its thirds
	hashes map[string]map[string]string
}

// newBench starts a server as `serve --dev` does and makes the clip.
func newBench(t *testing.T) *bench {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{url: "http://" + l.Addr().String(), hashes: make(map[string]map[string]string)}
	c := config.Dev(l.Addr().String(), filepath.Join(t.TempDir(), "data"), b.url)
	log := slog.New(slog.DiscardHandler)
	a, err := app.New(t.Context(), c, app.Backends{
		Stdout: io.Discard,
		Stores: map[string]app.OpenStore{"sqlite": func(ctx context.Context, u *url.URL, log *slog.Logger) (keystore.Store, error) {
			return sqlite.Open(ctx, u.Path, sqlite.Options{Log: log})
		}},
		KeyManagers: map[string]app.OpenKeyManager{"file": func(_ context.Context, u *url.URL, _ bool) (keystore.KeyManager, error) {
			if err := filekey.Create(u.Path, time.Now()); err != nil {
				return nil, err
			}
			return filekey.Open(u.Path)
		}},
	}, "spekeasy/test", log)
	if err != nil {
		t.Fatal(err)
	}
	b.keys = a.Keystore
	serving, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- a.Serve(serving, l) }()
	t.Cleanup(func() { // after parallel subtests
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := a.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})

	b.shaka, err = filepath.Abs("../../bin/npm/node_modules/shaka-packager/bin/packager-linux-x64")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b.shaka); err != nil {
		t.Fatalf("%v; run `make deps`", err)
	}
	b.makeClip(t)
	return b
}

func (b *bench) makeClip(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	b.clip = filepath.Join(dir, "clip.mp4")
	run(t, "ffmpeg", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25:duration=6", "-f", "lavfi", "-i", "sine=frequency=440:duration=6",
		"-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "25", "-keyint_min", "25", "-sc_threshold", "0", "-bf", "0",
		"-c:a", "aac", "-b:a", "64k", "-threads", "1", b.clip)
	run(t, "ffmpeg", "-i", b.clip, "-c", "copy", "-map", "0", "-f", "segment", "-segment_time", "2", "-reset_timestamps", "1",
		filepath.Join(dir, "part%d.mp4"))
	b.parts = []string{filepath.Join(dir, "part0.mp4"), filepath.Join(dir, "part1.mp4"), filepath.Join(dir, "part2.mp4")}
	for _, file := range append([]string{b.clip}, b.parts...) {
		b.hashes[file] = map[string]string{"video": frames(t, file, "v"), "audio": frames(t, file, "a")}
	}
	if b.hashes[b.parts[0]]["video"] == b.hashes[b.parts[1]]["video"] {
		t.Fatal("two thirds of the clip look alike")
	}
}

// run runs a program that must succeed and returns its standard output.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	if name == "ffmpeg" {
		args = append([]string{"-v", "error", "-nostdin", "-y"}, args...)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %.300s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, stderr.Bytes())
	}
	return string(out)
}

// frames is a digest of all decoded frames of a file's video or audio, those
// that an edit list hides included, since not all programs keep it.
func frames(t *testing.T, file, stream string, more ...string) string {
	t.Helper()
	if strings.HasSuffix(file, ".mp4") {
		more = append(more, "-ignore_editlist", "1")
	}
	return run(t, "ffmpeg", append(more, "-threads", "1", "-i", file, "-map", "0:"+stream, "-vsync", "passthrough", "-f", "md5", "-")...)
}

// broken is frames for a file that may not decode.
func broken(t *testing.T, file, stream string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ffmpeg", "-v", "quiet", "-nostdin", "-ignore_editlist", "1", "-threads", "1", "-i", file, "-map", "0:"+stream, "-f", "md5", "-")
	out, _ := cmd.Output() //nolint:errcheck // it may well fail
	return string(out)
}

// ask asks for keys as an encryptor does, and checks the answer.
func (b *bench) ask(t *testing.T, o *encryptor.Options) []encryptor.Key {
	t.Helper()
	req, err := o.Build()
	if err != nil {
		t.Fatal(err)
	}
	c := &encryptor.Client{URL: b.url + "/speke/v" + string(req.Version) + "/copyProtection", Auth: encryptor.Basic("dev", "dev")}
	answer, err := c.Do(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range answer.Check() {
		if !v.Advice {
			t.Error(v)
		}
	}
	return answer.Keys
}

// contentKeys asks for keys as a packager does, for all track types and, if
// count is not 0, the first so many crypto periods.
func (b *bench) contentKeys(t *testing.T, contentID string, scheme contentkey.Scheme, count uint32) []widevine.Track {
	t.Helper()
	inner := map[string]any{"content_id": []byte(contentID), "protection_scheme": strings.ToUpper(scheme.String())}
	var tracks []map[string]string
	for _, name := range widevine.TrackTypes() {
		tracks = append(tracks, map[string]string{"type": name})
	}
	inner["tracks"] = tracks
	if count > 0 {
		inner["first_crypto_period_index"], inner["crypto_period_count"] = 0, count
	}
	message, err := json.Marshal(inner)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := widevine.NewAESSigner(unhex(t, signingKey), unhex(t, signingIV))
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"request": message, "signature": signer.Sign(message), "signer": "dev"})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/cenc/getcontentkey/dev", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err = io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	answered, _, err := widevine.ReadAnswer(body)
	if err != nil || len(answered) != len(tracks)*int(max(count, 1)) {
		t.Fatalf("status %d, %d tracks, %v", res.StatusCode, len(answered), err)
	}
	return answered
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// output is what the packager made of a clip.
type output struct{ video, audio string }

// pack runs the packager over the video and audio of a file.
func (b *bench) pack(t *testing.T, file string, args ...string) output {
	t.Helper()
	dir := t.TempDir()
	out := output{filepath.Join(dir, "video.mp4"), filepath.Join(dir, "audio.mp4")}
	run(t, b.shaka, append([]string{
		"in=" + file + ",stream=video,output=" + out.video, "in=" + file + ",stream=audio,output=" + out.audio,
		"--clear_lead", "0", "--segment_duration", "1", "--quiet", "--mpd_output", filepath.Join(dir, "manifest.mpd"),
	}, args...)...)
	return out
}

// repack runs the packager over what it has made.
func (o output) repack(t *testing.T, b *bench, args ...string) output {
	t.Helper()
	dir := t.TempDir()
	out := output{filepath.Join(dir, "video.mp4"), filepath.Join(dir, "audio.mp4")}
	run(t, b.shaka, append([]string{
		"in=" + o.video + ",stream=video,output=" + out.video, "in=" + o.audio + ",stream=audio,output=" + out.audio, "--quiet",
	}, args...)...)
	return out
}

// refused runs the packager, which must fail, and returns what it says.
func (b *bench) refused(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), b.shaka, append([]string{
		"in=" + b.clip + ",stream=video,output=" + filepath.Join(t.TempDir(), "video.mp4"),
	}, args...)...)
	said, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("the packager was content:\n%s", said)
	}
	return string(said)
}

// rawKeys are the keys of a run by the packager's own track types; "" is for
// all tracks.
type rawKeys map[string]encryptor.Key

// packageRaw packages a file with everything that a SPEKE answer says about
// its keys, and checks the result.
func (b *bench) packageRaw(t *testing.T, file string, scheme contentkey.Scheme, keys rawKeys) {
	t.Helper()
	var list, pssh []string
	ring := make(keyring)
	for label, k := range keys {
		text := fmt.Sprintf("label=%s:key_id=%x:key=%x", label, k.KID[:], k.Value[:])
		if k.ExplicitIV != "" {
			iv, err := contentkey.ParseIV(k.ExplicitIV)
			if err != nil {
				t.Fatal(err)
			}
			text += fmt.Sprintf(":iv=%x", iv[:])
		}
		list = append(list, text)
		for _, s := range k.Systems {
			pssh = append(pssh, hex.EncodeToString(s.PSSH))
		}
		ring[k.KID] = k.Value
	}
	out := b.pack(t, file, "--enable_raw_key_encryption", "--keys", strings.Join(list, ","),
		"--pssh", strings.Join(pssh, ""), "--protection_scheme", scheme.String())
	if used := out.check(t, b, file, ring); len(used) != len(keys) {
		t.Errorf("key IDs %v in the media, want %d", used, len(keys))
	}
}

// keyring are keys by key ID.
type keyring map[contentkey.KID]contentkey.Value

// check decrypts what the packager made with two programs, compares the frames
// with those of the clear file, and holds that a wrong key gives others. It
// returns the key IDs in the media.
func (o output) check(t *testing.T, b *bench, clear string, keys keyring) (used []contentkey.KID) {
	t.Helper()
	byMP4FF := output{filepath.Join(t.TempDir(), "video.mp4"), filepath.Join(t.TempDir(), "audio.mp4")}
	for _, kid := range slices.Concat(decrypt(t, o.video, byMP4FF.video, keys), decrypt(t, o.audio, byMP4FF.audio, keys)) {
		if !slices.Contains(used, kid) {
			used = append(used, kid)
		}
	}
	byMP4FF.same(t, b, clear, "mp4ff")

	if len(used) <= 2 {
		video, audio := keys[used[0]], keys[used[len(used)-1]]
		o.sameFrames(t, b, clear, "ffmpeg",
			frames(t, o.video, "v", "-decryption_key", hex.EncodeToString(video[:])),
			frames(t, o.audio, "a", "-decryption_key", hex.EncodeToString(audio[:])))
	} else { // ffmpeg takes one key for a file
		o.sameFrames(t, b, clear, "ffmpeg by fragments",
			frames(t, fragments(t, o.video, "h264", keys), "v"), frames(t, fragments(t, o.audio, "adts", keys), "a"))
	}

	bad := make(keyring)
	for kid, key := range keys {
		key[15] ^= 1
		bad[kid] = key
	}
	wrong := output{filepath.Join(t.TempDir(), "video.mp4"), filepath.Join(t.TempDir(), "audio.mp4")}
	decrypt(t, o.video, wrong.video, bad)
	decrypt(t, o.audio, wrong.audio, bad)
	if broken(t, wrong.video, "v") == b.hashes[clear]["video"] || broken(t, wrong.audio, "a") == b.hashes[clear]["audio"] {
		t.Error("a wrong key decrypts the clip")
	}
	return used
}

// same holds that a decrypted clip has the frames of the clear one.
func (o output) same(t *testing.T, b *bench, clear, by string) {
	t.Helper()
	o.sameFrames(t, b, clear, by, frames(t, o.video, "v"), frames(t, o.audio, "a"))
}

func (o output) sameFrames(t *testing.T, b *bench, clear, by, video, audio string) {
	t.Helper()
	if video != b.hashes[clear]["video"] {
		t.Errorf("video decrypted by %s has other frames than the clear clip", by)
	}
	if audio != b.hashes[clear]["audio"] {
		t.Errorf("audio decrypted by %s has other frames than the clear clip", by)
	}
}

// describe has the track's encryption box say what the fragment's sample group
// "seig" says, which takes its place (ISO/IEC 23001-7).
func describe(tenc *mp4.TencBox, fragment *mp4.Fragment) {
	for _, child := range fragment.Moof.Traf.Children {
		if g, ok := child.(*mp4.SgpdBox); ok && g.GroupingType == "seig" {
			e := g.SampleGroupEntries[0].(*mp4.SeigSampleGroupEntry)
			tenc.DefaultKID, tenc.DefaultConstantIV, tenc.DefaultPerSampleIVSize = e.KID, e.ConstantIV, e.PerSampleIVSize
			tenc.DefaultCryptByteBlock, tenc.DefaultSkipByteBlock = e.CryptByteBlock, e.SkipByteBlock
		}
	}
}

// fragments has ffmpeg decrypt a file with several keys: each fragment alone,
// with its key, as an elementary stream of the format. It returns the file
// with all of them.
func fragments(t *testing.T, from, format string, keys keyring) string {
	t.Helper()
	in, err := mp4.ReadMP4File(from)
	if err != nil {
		t.Fatal(err)
	}
	var tenc *mp4.TencBox
	switch e := in.Init.Moov.Trak.Mdia.Minf.Stbl.Stsd.Children[0].(type) {
	case *mp4.VisualSampleEntryBox:
		tenc = e.Sinf.Schi.Tenc
	case *mp4.AudioSampleEntryBox:
		tenc = e.Sinf.Schi.Tenc
	}
	dir := t.TempDir()
	var all bytes.Buffer
	for _, segment := range in.Segments {
		for _, fragment := range segment.Fragments {
			describe(tenc, fragment)
			var alone bytes.Buffer
			if err := in.Init.Encode(&alone); err != nil {
				t.Fatal(err)
			}
			if err := fragment.Encode(&alone); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "fragment.mp4")
			if err := os.WriteFile(file, alone.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			key := keys[contentkey.KID(tenc.DefaultKID)]
			all.WriteString(run(t, "ffmpeg", "-decryption_key", hex.EncodeToString(key[:]), "-i", file, "-c", "copy", "-f", format, "-"))
		}
	}
	file := filepath.Join(dir, "all."+format)
	if err := os.WriteFile(file, all.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// decrypt decrypts a file with mp4ff and returns the key IDs that it meets.
// Each fragment may have a key of its own.
func decrypt(t *testing.T, from, to string, keys keyring) (used []contentkey.KID) {
	t.Helper()
	in, err := mp4.ReadMP4File(from)
	if err != nil {
		t.Fatal(err)
	}
	info, err := mp4.DecryptInit(in.Init)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := in.Init.Encode(out); err != nil {
		t.Fatal(err)
	}
	tenc := info.TrackInfos[0].Sinf.Schi.Tenc
	for _, segment := range in.Segments {
		for _, fragment := range segment.Fragments {
			describe(tenc, fragment)
			kid := contentkey.KID(tenc.DefaultKID)
			key, ok := keys[kid]
			if !ok {
				t.Fatalf("%s is encrypted with key ID %s, which nobody gave", filepath.Base(from), kid)
			}
			if !slices.Contains(used, kid) {
				used = append(used, kid)
			}
			if err := mp4.DecryptFragment(fragment, info, key[:]); err != nil {
				t.Fatal(err)
			}
			if err := fragment.Encode(out); err != nil {
				t.Fatal(err)
			}
		}
	}
	return used
}
