//go:build linux

package packagers_test

import (
	"crypto/rand"
	"encoding/hex"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
	"spekeasy/internal/packager"
	"spekeasy/internal/tenant"
)

// TestTools has packaging tools encrypt with the arguments that `spekeasy keys
// show --for` prints.
func TestTools(t *testing.T) {
	b := newBench(t)
	tn, err := (&tenant.Settings{ID: "dev"}).Build()
	if err != nil {
		t.Fatal(err)
	}
	mp4ff := filepath.Join(t.TempDir(), "mp4ff-encrypt")
	run(t, "go", "build", "-o", mp4ff, "github.com/Eyevinn/mp4ff/cmd/mp4ff-encrypt")
	fragmented := filepath.Join(t.TempDir(), "fragmented.mp4")
	run(t, "ffmpeg", "-i", b.clip, "-map", "0:v", "-c", "copy", "-movflags", "frag_keyframe+empty_moov+default_base_moof+dash", fragmented)
	clear := b.hashes[b.clip]

	for _, scheme := range []contentkey.Scheme{contentkey.Cenc, contentkey.Cbcs} {
		o := request(encryptor.V20, scheme, audioVideo)
		keys := make(keyring)
		for _, k := range b.ask(t, &o) {
			keys[k.KID] = k.Value
		}
		found, _, err := packager.New(b.keys).Find(t.Context(), tn, o.ContentID, 0, "")
		if err != nil {
			t.Fatal(err)
		}
		arguments := func(tool, track string) []string {
			text, err := packager.Arguments(tool, scheme, found, track, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Fields(text)
		}
		t.Run("shaka/"+scheme.String(), func(t *testing.T) {
			out := b.pack(t, b.clip, arguments("shaka", "")...)
			if used := out.check(t, b, b.clip, keys); len(used) != 2 {
				t.Errorf("key IDs %v", used)
			}
		})
		t.Run("mp4ff/"+scheme.String(), func(t *testing.T) {
			dir := t.TempDir()
			in, out := filepath.Join(dir, "encrypted.mp4"), filepath.Join(dir, "clear.mp4")
			run(t, mp4ff, append(arguments("mp4ff", "SD"), fragmented, in)...)
			decrypt(t, in, out, keys)
			if frames(t, out, "v") != clear["video"] || broken(t, in, "v") == clear["video"] {
				t.Error("other frames than the clear clip's, or not encrypted")
			}
			byShaka := filepath.Join(dir, "shaka.mp4")
			key := keys[found[0].KID]
			run(t, b.shaka, "in="+in+",stream=video,output="+byShaka, "--quiet", "--enable_raw_key_decryption",
				"--keys", "key_id="+hex.EncodeToString(found[0].KID[:])+":key="+hex.EncodeToString(key[:]))
			if frames(t, byShaka, "v") != clear["video"] {
				t.Error("the packager decrypts other frames than the clear clip's")
			}
		})
		if scheme != contentkey.Cenc {
			continue // ffmpeg has no other
		}
		t.Run("ffmpeg/cenc", func(t *testing.T) {
			in := filepath.Join(t.TempDir(), "encrypted.mp4")
			run(t, "ffmpeg", append(append([]string{"-i", b.clip, "-map", "0:v", "-c", "copy"}, arguments("ffmpeg", "SD")...), in)...)
			key := keys[found[0].KID]
			if frames(t, in, "v", "-decryption_key", hex.EncodeToString(key[:])) != clear["video"] || broken(t, in, "v") == clear["video"] {
				t.Error("other frames than the clear clip's, or not encrypted")
			}
		})
	}
}

// TestPlayReady packages with the key of Microsoft's call (D-605).
func TestPlayReady(t *testing.T) {
	b := newBench(t)
	for _, scheme := range []contentkey.Scheme{contentkey.Cenc, contentkey.Cbcs} {
		url := strings.Replace(b.url, "http://", "http://dev:dev@", 1) + "/playready/packaging/dev?scheme=" + scheme.String()
		out := b.pack(t, b.clip, "--enable_playready_encryption", "--playready_server_url", url, "--program_identifier", "film",
			"--protection_scheme", scheme.String())
		keys := make(keyring)
		for _, track := range b.contentKeys(t, "film", scheme, 0) {
			keys[track.KID] = track.Key
		}
		if used := out.check(t, b, b.clip, keys); len(used) != 1 || len(keys) != 1 {
			t.Errorf("%s: key IDs %v in the media, %d keys", scheme, used, len(keys))
		}
	}
}

// TestCPIXIsNotReadYet tells when a packager that reads CPIX is released, so
// that the matrix can have it: 3.4.2 does not know the flag.
func TestCPIXIsNotReadYet(t *testing.T) {
	b := newBench(t)
	help, err := exec.CommandContext(t.Context(), b.shaka, "--helpfull").CombinedOutput()
	if !strings.Contains(string(help), "enable_widevine_encryption") {
		t.Fatalf("no flags in the help: %v", err)
	}
	if strings.Contains(string(help), "enable_cpix_encryption") {
		t.Error("this packager reads CPIX: have the matrix do so")
	}
}
