package demo

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/encryptor"
)

// part is a run of bytes of a box with its meaning.
type part struct {
	Hex     string // bytes in pairs
	Meaning string
	Value   string // for people; may be empty
	Class   string // of the style sheet
}

// decoded is what one DRM system's signaling says.
type decoded struct {
	Name, ID string
	Reader   string // who reads it
	About    string
	Title    string // of the parts
	Parts    []part
	Text     string // a header or tag that is text
	TextName string
	Facts    [][2]string
}

// about tells who reads the signaling of a system, and what it is.
var about = map[string][2]string{
	"Widevine":       {"Chrome, Android, most TVs", "A pssh box whose data is a small protobuf message. It names the key; it does not hold it. The device sends it to a Widevine license server."},
	"PlayReady":      {"Windows, Xbox, TVs", "A pssh box whose data is an XML header in UTF-16. The first eight bytes of the key ID stand in another order there than everywhere else."},
	"FairPlay":       {"Safari, iPhone, Apple TV", "No box at all: a line in the playlist. What follows skd:// is handed to the app, which asks the license server for that key."},
	"Common PSSH":    {"Browsers' own Clear Key", "A pssh box that lists key IDs and has no data of its own. Your browser has just read it."},
	"Clear Key":      {"This page", "An element in the manifest with the address of a license server that hands out keys in clear. For tests, and for content that needs no studio's approval."},
	"HLS AES-128":    {"Every HLS player", "A line in the playlist with the address of the key: 16 bytes, for whoever shows a good token."},
	"HLS SAMPLE-AES": {"HLS players", "The same for content that is encrypted sample by sample."},
}

func decode(s *encryptor.Signaling) decoded {
	d := decoded{Name: s.Name, ID: s.System.String()}
	d.Reader, d.About = about[s.Name][0], about[s.Name][1]
	if box, err := drm.ParseBox(s.PSSH); err == nil {
		d.Title = fmt.Sprintf("pssh box, %d bytes", len(s.PSSH))
		d.Parts = boxParts(s.PSSH, &box)
		switch s.Name {
		case "Widevine":
			d.widevine(box.Data)
		case "PlayReady":
			d.playReady(box.Data)
		case "Common PSSH":
			for _, kid := range box.KIDs {
				d.Facts = append(d.Facts, [2]string{"key ID", kid.String()})
			}
		}
	}
	switch {
	case s.Name == "Clear Key":
		d.Text, d.TextName = s.ContentProtection, "In the manifest"
	case s.PSSH == nil && s.HLSMedia != "":
		d.Text, d.TextName = s.HLSMedia, "In the playlist"
		d.fairPlay(s.HLSMedia)
	}
	return d
}

// boxParts takes a pssh box apart (ISO/IEC 23001-7).
func boxParts(b []byte, box *drm.Box) []part {
	var parts []part
	at := 0
	cut := func(n int, class, meaning, value string) {
		parts = append(parts, part{pairs(b[at : at+n]), meaning, value, class})
		at += n
	}
	cut(4, "a", "size", fmt.Sprintf("%d bytes", len(b)))
	cut(4, "b", "type", "pssh")
	cut(4, "a", "version and flags", fmt.Sprintf("version %d", box.Version))
	cut(16, "c", "DRM system", drm.SystemName(box.SystemID))
	if box.Version > 0 {
		cut(4, "a", "number of key IDs", fmt.Sprint(len(box.KIDs)))
		for _, kid := range box.KIDs {
			cut(16, "d", "key ID", kid.String())
		}
	}
	cut(4, "a", "size of the data", fmt.Sprintf("%d bytes", len(box.Data)))
	if len(box.Data) > 0 {
		cut(len(box.Data), "e", "data", "decoded below")
	}
	return parts
}

func pairs(b []byte) string {
	const most = 40
	text := hex.EncodeToString(b[:min(len(b), most)])
	var out strings.Builder
	for i := 0; i < len(text); i += 2 {
		if i > 0 {
			out.WriteByte(' ')
		}
		out.WriteString(text[i : i+2])
	}
	if len(b) > most {
		fmt.Fprintf(&out, " … %d more", len(b)-most)
	}
	return out.String()
}

func (d *decoded) fact(name, format string, args ...any) {
	d.Facts = append(d.Facts, [2]string{name, fmt.Sprintf(format, args...)})
}

func (d *decoded) widevine(data []byte) {
	w, err := drm.ParseWidevineData(data)
	if err != nil {
		return
	}
	for _, id := range w.KeyIDs {
		if len(id) == len(contentkey.KID{}) {
			d.fact("key_id", "%s", contentkey.KID(id))
		}
	}
	if len(w.ContentID) > 0 {
		d.fact("content_id", "%s", w.ContentID)
	}
	var fourCC [4]byte
	binary.BigEndian.PutUint32(fourCC[:], w.ProtectionScheme)
	d.fact("protection_scheme", "%s, as the number %d", fourCC, w.ProtectionScheme)
}

func (d *decoded) playReady(data []byte) {
	h, err := drm.ParsePlayReadyObject(data)
	if err != nil || len(data) < 10 {
		return
	}
	// The object: size, number of records, type and size of the first one.
	units := make([]uint16, 0, len(data)/2)
	for i := 10; i+1 < len(data); i += 2 {
		units = append(units, binary.LittleEndian.Uint16(data[i:]))
	}
	d.Text, d.TextName = string(utf16.Decode(units)), "The header, from UTF-16"
	d.fact("version", "%s", h.Version)
	for _, k := range h.Keys {
		d.fact("key ID", "%s", k.KID)
		swapped := k.KID
		for _, pair := range [][2]int{{0, 3}, {1, 2}, {4, 5}, {6, 7}} {
			swapped[pair[0]], swapped[pair[1]] = swapped[pair[1]], swapped[pair[0]]
		}
		d.fact("written as", "%s", base64.StdEncoding.EncodeToString(swapped[:]))
		if len(k.Checksum) > 0 {
			d.fact("checksum, which tells a wrong key", "%s", base64.StdEncoding.EncodeToString(k.Checksum))
		}
	}
}

// fairPlay reads MediaPackage's form of the key URI.
func (d *decoded) fairPlay(tag string) {
	_, rest, ok := strings.Cut(tag, `URI="skd://`)
	text, _, closed := strings.Cut(rest, `"`)
	if !ok || !closed {
		return
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return
	}
	var v struct{ ContentId, KeyId, IV string }
	if json.Unmarshal(b, &v) != nil {
		return
	}
	d.fact("ContentId", "%s", v.ContentId)
	d.fact("KeyId", "%s", v.KeyId)
	d.fact("IV", "%s", v.IV)
}
