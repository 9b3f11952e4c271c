package drm

import (
	"spekeasy/contentkey"
	"spekeasy/internal/b64"
)

// playReadyTemplate is the PlayReady Object that a customer's tracks of one
// scheme share, but for two texts in it: the base64 of the key ID and of the
// checksum. To fill them in is ten times as fast as to write the object.
type playReadyTemplate struct {
	object   []byte
	kid      int // where the key ID stands
	checksum int // where the checksum stands, 0 for nowhere
}

// prepared returns p with its templates made. Its settings are valid and do
// not change from now on.
func (p PlayReady) prepared() (PlayReady, error) {
	cenc, err := p.template(contentkey.Cenc)
	if err != nil {
		return PlayReady{}, err
	}
	p.cbcs, err = p.template(contentkey.Cbcs)
	p.cenc = cenc
	return p, err
}

func (p *PlayReady) template(scheme contentkey.Scheme) (*playReadyTemplate, error) {
	// Where a text stands is where two objects begin to differ.
	ones := contentkey.KID{0xff, 0xff, 0xff, 0xff}
	key := PlayReadyKey{Checksum: make([]byte, 8)}
	if scheme != contentkey.Cenc {
		key.Checksum = nil
	}
	object, err := p.appendHeader(nil, key, scheme)
	if err != nil {
		return nil, err
	}
	key.KID = ones
	other, err := p.appendHeader(nil, key, scheme)
	if err != nil {
		return nil, err
	}
	t := &playReadyTemplate{object: object, kid: difference(object, other)}
	if scheme == contentkey.Cenc {
		key.KID, key.Checksum = contentkey.KID{}, ones[:8]
		if other, err = p.appendHeader(nil, key, scheme); err != nil {
			return nil, err
		}
		t.checksum = difference(object, other)
	}
	return t, nil
}

// difference returns the first place where two objects of one length differ.
func difference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// append appends the object for one track.
func (p *playReadyTemplate) append(b []byte, t *Track) []byte {
	at := len(b)
	b = append(b, p.object...)
	var scratch [24]byte
	id := guid(t.KID)
	putUTF16(b[at+p.kid:], b64.Append(scratch[:0], id[:]))
	if p.checksum > 0 {
		sum := PlayReadyChecksum(t.KID, t.Key)
		putUTF16(b[at+p.checksum:], b64.Append(scratch[:0], sum[:]))
	}
	return b
}

// putUTF16 writes ASCII text over text in UTF-16LE.
func putUTF16(b, text []byte) {
	for i, c := range text {
		b[2*i] = c
	}
}
