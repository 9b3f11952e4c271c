package demo

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/Eyevinn/mp4ff/mp4"

	"spekeasy/contentkey"
)

//go:embed clip/video.mp4 clip/audio.mp4
var clip embed.FS

// piece is a segment of a track with its duration in the track's time scale.
type piece struct {
	body     []byte
	duration uint64
}

// track is one encrypted track of the clip, as a packager writes it.
type track struct {
	name      string // video, audio
	codec     string
	timescale uint32
	init      []byte
	pieces    []piece
}

// trackKey is a content key with what goes with it into a file.
type trackKey struct {
	kid   contentkey.KID
	value contentkey.Value
	iv    contentkey.IV
	boxes []byte // pssh boxes, back to back
}

// source is a track of the clip before encryption.
type source struct {
	init      *mp4.InitSegment
	fragments []*mp4.Fragment
	duration  []uint64
}

func readClip(name string) (*source, error) {
	b, err := clip.ReadFile("clip/" + name + ".mp4")
	if err != nil {
		return nil, err
	}
	f, err := mp4.DecodeFile(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	s := &source{init: f.Init}
	for _, segment := range f.Segments {
		for _, fragment := range segment.Fragments {
			samples, err := fragment.GetFullSamples(f.Init.Moov.Mvex.Trex)
			if err != nil {
				return nil, err
			}
			var duration uint64
			for i := range samples {
				duration += uint64(samples[i].Dur)
			}
			s.fragments, s.duration = append(s.fragments, fragment), append(s.duration, duration)
		}
	}
	return s, nil
}

// encodable is a box or a group of them.
type encodable interface{ Encode(io.Writer) error }

func bytesOf(e encodable) ([]byte, error) {
	var b bytes.Buffer
	err := e.Encode(&b)
	return b.Bytes(), err
}

// protect encrypts a track of the clip under cenc or cbcs, its samples, or
// under cbc1, which in HLS means whole segments.
func protect(name string, scheme contentkey.Scheme, k *trackKey) (*track, error) {
	s, err := readClip(name)
	if err != nil {
		return nil, fmt.Errorf("clip, %s: %w", name, err)
	}
	t := &track{name: name, timescale: s.init.Moov.Trak.Mdia.Mdhd.Timescale, codec: codecOf(s.init)}
	if scheme == contentkey.Cbc1 {
		err = t.encryptSegments(s, k)
	} else {
		err = t.encryptSamples(s, scheme, k)
	}
	if err != nil {
		return nil, fmt.Errorf("clip, %s, %s: %w", name, scheme, err)
	}
	return t, nil
}

func codecOf(init *mp4.InitSegment) string {
	stsd := init.Moov.Trak.Mdia.Minf.Stbl.Stsd
	if stsd.AvcX != nil {
		sps := stsd.AvcX.AvcC.SPSnalus[0]
		return "avc1." + hex.EncodeToString(sps[1:4])
	}
	return "mp4a.40.2"
}

// encryptSamples encrypts as ISO/IEC 23001-7 has it. The first IV is of 8
// bytes for cenc, so that old PlayReady clients can read it (D-270), and the
// constant one of the key for cbcs.
func (t *track) encryptSamples(s *source, scheme contentkey.Scheme, k *trackKey) error {
	iv := k.iv[:]
	if scheme == contentkey.Cenc {
		iv = make([]byte, 8)
		rand.Read(iv)
	}
	var boxes []*mp4.PsshBox
	for r := bytes.NewReader(k.boxes); r.Len() > 0; {
		box, err := mp4.DecodeBox(uint64(len(k.boxes)-r.Len()), r)
		if err != nil {
			return err
		}
		pssh, ok := box.(*mp4.PsshBox)
		if !ok {
			return fmt.Errorf("a box %s among the pssh boxes", box.Type())
		}
		boxes = append(boxes, pssh)
	}
	protection, err := mp4.InitProtect(s.init, k.value[:], iv, scheme.String(), k.kid[:], boxes)
	if err != nil {
		return err
	}
	e, err := protection.NewFragmentEncryptor(k.value[:], iv)
	if err != nil {
		return err
	}
	if t.init, err = bytesOf(s.init); err != nil {
		return err
	}
	for i, fragment := range s.fragments {
		if err := e.EncryptFragment(fragment); err != nil {
			return err
		}
		b, err := bytesOf(fragment)
		if err != nil {
			return err
		}
		t.pieces = append(t.pieces, piece{b, s.duration[i]})
	}
	return nil
}

// encryptSegments encrypts whole segments with AES-128-CBC and PKCS #7
// padding; the chain starts anew with each (D-430).
func (t *track) encryptSegments(s *source, k *trackKey) (err error) {
	if t.init, err = bytesOf(s.init); err != nil {
		return err
	}
	block, err := aes.NewCipher(k.value[:])
	if err != nil {
		return err
	}
	for i, fragment := range s.fragments {
		b, err := bytesOf(fragment)
		if err != nil {
			return err
		}
		pad := aes.BlockSize - len(b)%aes.BlockSize
		b = append(b, bytes.Repeat([]byte{byte(pad)}, pad)...)
		cipher.NewCBCEncrypter(block, k.iv[:]).CryptBlocks(b, b)
		t.pieces = append(t.pieces, piece{b, s.duration[i]})
	}
	return nil
}
