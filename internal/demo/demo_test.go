package demo_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/Eyevinn/mp4ff/mp4"

	"spekeasy/contentkey"
	"spekeasy/internal/demo/demotest"
)

func get(t *testing.T, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", address, res.StatusCode, err)
	}
	return string(b)
}

// samples are the samples of a track, in one piece.
func samples(t *testing.T, f *mp4.File) []byte {
	t.Helper()
	var all []byte
	for _, s := range f.Segments {
		for _, fragment := range s.Fragments {
			list, err := fragment.GetFullSamples(f.Init.Moov.Mvex.Trex)
			if err != nil {
				t.Fatal(err)
			}
			for i := range list {
				all = append(all, list[i].Data...)
			}
		}
	}
	return all
}

func decodeFile(t *testing.T, b []byte) *mp4.File {
	t.Helper()
	f, err := mp4.DecodeFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestStreams decrypts what is served, with the keys of the answers, and
// compares it with the clip; another key does not do.
func TestStreams(t *testing.T) {
	s := demotest.Start(t, nil)
	for _, stream := range s.Demo.Streams {
		for _, name := range []string{"video", "audio"} {
			t.Run(stream.ID+"/"+name, func(t *testing.T) {
				b, err := os.ReadFile("clip/" + name + ".mp4")
				if err != nil {
					t.Fatal(err)
				}
				want := samples(t, decodeFile(t, b))
				key := &stream.Answer.Keys[0]
				for i := range stream.Answer.Keys {
					for _, u := range stream.Answer.Keys[i].Uses {
						if strings.EqualFold(u.Track, name) {
							key = &stream.Answer.Keys[i]
						}
					}
				}
				base := s.URL + "/demo/" + stream.ID + "/" + name + "/"
				file := get(t, base+"init.mp4")
				for i := range 4 {
					segment := get(t, fmt.Sprintf("%s%d.m4s", base, i+1))
					if stream.ID == "aes-128" {
						segment = open(t, segment, key.Value, key.ExplicitIV)
					}
					file += segment
				}
				f := decodeFile(t, []byte(file))
				if stream.ID != "aes-128" {
					if bytes.Equal(samples(t, f), want) {
						t.Fatal("it is not encrypted")
					}
					decrypt(t, f, key.Value)
				}
				if !bytes.Equal(samples(t, f), want) {
					t.Error("decrypted, it is not the clip")
				}
			})
		}
	}
}

// decrypt decrypts samples as mp4ff does.
func decrypt(t *testing.T, f *mp4.File, key contentkey.Value) {
	t.Helper()
	info, err := mp4.DecryptInit(f.Init)
	if err != nil {
		t.Fatal(err)
	}
	for _, segment := range f.Segments {
		if err := mp4.DecryptSegment(segment, info, key[:]); err != nil {
			t.Fatal(err)
		}
	}
}

// open decrypts a whole segment.
func open(t *testing.T, segment string, key contentkey.Value, iv string) string {
	t.Helper()
	v, err := contentkey.ParseIV(iv)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	b := []byte(segment)
	cipher.NewCBCDecrypter(block, v[:]).CryptBlocks(b, b)
	return string(b[:len(b)-int(b[len(b)-1])])
}

// TestClipIsSmall: the clip is in every copy of the program.
func TestClipIsSmall(t *testing.T) {
	size := int64(0)
	for _, name := range []string{"video", "audio"} {
		info, err := os.Stat("clip/" + name + ".mp4")
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > 300_000 {
		t.Errorf("%d bytes", size)
	}
}
