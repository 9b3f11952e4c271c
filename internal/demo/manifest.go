package demo

import (
	"encoding/hex"
	"fmt"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
)

// seconds is a duration in a track's time scale.
func (t *track) seconds(d uint64) float64 { return float64(d) / float64(t.timescale) }

func (t *track) total() (d uint64) {
	for i := range t.pieces {
		d += t.pieces[i].duration
	}
	return d
}

// mpd writes the DASH manifest. What it says about protection is what the
// key provider answered (D-801, D-810 ff).
func (s *Stream) mpd() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`<?xml version="1.0" encoding="UTF-8"?>`)
	p(`<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" xmlns:cenc="urn:mpeg:cenc:2013" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" mediaPresentationDuration="PT%.3fS" minBufferTime="PT2S">`,
		s.tracks[0].seconds(s.tracks[0].total()))
	p(`  <Period id="1" start="PT0S">`)
	for i, t := range s.tracks {
		k := s.key(i)
		p(`    <AdaptationSet id="%d" contentType="%s" mimeType="%s/mp4" segmentAlignment="true" startWithSAP="1">`, i+1, t.name, t.name)
		p(`      <ContentProtection schemeIdUri="urn:mpeg:dash:mp4protection:2011" value="%s" cenc:default_KID="%s"/>`, s.scheme, k.KID)
		for j := range k.Systems {
			// Players take the common box for a system of its own without a
			// license server (D-412). It is in the file.
			if sys := &k.Systems[j]; sys.ContentProtection != "" && sys.Name != "Common PSSH" {
				value := ""
				if sys.Name == "Clear Key" {
					value = ` value="ClearKey1.0"`
				}
				p(`      <ContentProtection schemeIdUri="urn:uuid:%s"%s>%s</ContentProtection>`, sys.System, value, sys.ContentProtection)
			}
		}
		p(`      <SegmentTemplate timescale="%d" initialization="%s/%s/init.mp4" media="%s/%s/$Number$.m4s" startNumber="1">`, t.timescale, s.ID, t.name, s.ID, t.name)
		p(`        <SegmentTimeline>`)
		for j := range t.pieces {
			p(`          <S d="%d"/>`, t.pieces[j].duration)
		}
		p(`        </SegmentTimeline>`)
		p(`      </SegmentTemplate>`)
		if t.name == "video" {
			p(`      <Representation id="video" codecs="%s" width="768" height="432" frameRate="25" bandwidth="260000"/>`, t.codec)
		} else {
			p(`      <Representation id="audio" codecs="%s" audioSamplingRate="44100" bandwidth="52000"/>`, t.codec)
		}
		p(`    </AdaptationSet>`)
	}
	p(`  </Period>`)
	p(`</MPD>`)
	return b.String()
}

// master writes the HLS multivariant playlist.
func (s *Stream) master() string {
	return fmt.Sprintf("#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n"+
		"#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,URI=\"%s/audio.m3u8\"\n"+
		"#EXT-X-STREAM-INF:BANDWIDTH=320000,CODECS=\"%s,%s\",RESOLUTION=768x432,FRAME-RATE=25.000,AUDIO=\"audio\"\n%s/video.m3u8\n",
		s.ID, s.tracks[0].codec, s.tracks[1].codec, s.ID)
}

// playlist writes the HLS media playlist of a track with the key tag that the
// key provider answered. The IV attribute is the packager's to add (D-430).
func (s *Stream) playlist(i int) (string, error) {
	t, k := s.tracks[i], s.key(i)
	tag := ""
	for j := range k.Systems {
		if sys := &k.Systems[j]; strings.HasPrefix(sys.Name, "HLS") {
			tag = sys.HLSMedia
		}
	}
	if tag == "" {
		return "", fmt.Errorf("stream %s: no key tag for %s", s.ID, t.name)
	}
	iv, err := contentkey.ParseIV(k.ExplicitIV)
	if err != nil {
		return "", fmt.Errorf("stream %s: explicitIV of %s: %w", s.ID, t.name, err)
	}
	var b strings.Builder
	b.WriteString("#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:VOD\n")
	// Before the key tag: the initialization section is in clear.
	fmt.Fprintf(&b, "#EXT-X-MAP:URI=\"%s/init.mp4\"\n%s,IV=0x%s\n", t.name, tag, hex.EncodeToString(iv[:]))
	for j := range t.pieces {
		fmt.Fprintf(&b, "#EXTINF:%.5f,\n%s/%d.m4s\n", t.seconds(t.pieces[j].duration), t.name, j+1)
	}
	b.WriteString("#EXT-X-ENDLIST\n")
	return b.String(), nil
}

// key is the content key of a track: the one whose usage rule is for it, or
// the only one.
func (s *Stream) key(i int) *encryptor.Key {
	keys := s.Answer.Keys
	for j := range keys {
		for _, use := range keys[j].Uses {
			if strings.EqualFold(use.Track, s.tracks[i].name) {
				return &keys[j]
			}
		}
	}
	return &keys[0]
}
