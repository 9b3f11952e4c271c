package keylist

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// field is what a column or member means.
type field uint8

const (
	ignored field = iota
	fieldKID
	fieldKey
	fieldIV
	fieldScheme
	fieldContentID
	fieldTrack
	fieldPeriodID
	fieldPeriodIndex
	fieldPeriodStart
	fieldPeriodEnd
	numFields
)

var fieldNames = [numFields]string{
	"", "key ID", "key", "IV", "scheme", "content ID", "track",
	"period ID", "period index", "period start", "period end",
}

// meaning returns what a column is called in our files and in those of other
// key providers and packagers. Letter case and everything but letters and
// digits make no difference: "Key ID", "key_id" and "keyId" are one name.
func meaning(name string) field {
	switch fold(name) {
	case "kid", "keyid", "contentkeyid", "uuid", "keyuuid":
		return fieldKID
	case "key", "contentkey", "keyvalue", "value", "cek", "keyhex", "keybase64", "plainvalue", "plainkey":
		return fieldKey
	case "iv", "explicitiv", "initializationvector", "ivhex", "ivbase64", "keyiv":
		return fieldIV
	case "scheme", "commonencryptionscheme", "encryptionscheme", "protectionscheme":
		return fieldScheme
	case "contentid", "content", "cid", "asset", "assetid", "resourceid":
		return fieldContentID
	case "track", "tracktype", "intendedtracktype", "label":
		return fieldTrack
	case "periodid":
		return fieldPeriodID
	case "periodindex", "period", "keyperiodindex":
		return fieldPeriodIndex
	case "periodstart":
		return fieldPeriodStart
	case "periodend":
		return fieldPeriodEnd
	default:
		return ignored
	}
}

func fold(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case 'A' <= c && c <= 'Z':
			return c + 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			return c
		default:
			return -1
		}
	}, name)
}

// maxText bounds content IDs and the like.
const maxText = 64 << 10

// set puts the text of a field into the key. An empty text is as good as
// none.
func set(k *keystore.ImportedKey, f field, text string) error {
	if !utf8.ValidString(text) || len(text) > maxText {
		return fmt.Errorf("%s: not UTF-8, or longer than %d bytes", fieldNames[f], maxText)
	}
	switch f {
	case fieldContentID:
		k.ContentID = text
		return nil
	case fieldTrack:
		k.Track = text
		return nil
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return nil
	}
	switch f {
	case fieldKID:
		kid, err := parseKID(text)
		k.KID = kid
		return err
	case fieldKey:
		return parse16(k.Value[:], text, "key")
	case fieldIV:
		k.HasIV = true
		return parse16(k.IV[:], text, "IV")
	case fieldScheme:
		scheme, err := contentkey.ParseScheme(strings.ToLower(text))
		if err != nil {
			return errors.New("scheme: none of cenc, cens, cbc1, cbcs")
		}
		k.Scheme = scheme
	case fieldPeriodID:
		k.Period.ID = text
	case fieldPeriodIndex:
		k.Period.Index = text
	case fieldPeriodStart:
		k.Period.Start = text
	case fieldPeriodEnd:
		k.Period.End = text
	}
	return nil
}

// parseKID reads a UUID, with or without hyphens, braces or "urn:uuid:", or
// the base64 of its 16 bytes in the order in which the UUID is written.
func parseKID(text string) (contentkey.KID, error) {
	var kid contentkey.KID
	s := text
	if urn := "urn:uuid:"; len(s) > len(urn) && strings.EqualFold(s[:len(urn)], urn) {
		s = s[len(urn):]
	}
	s = strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}")
	if k, err := contentkey.ParseKID(s); err == nil {
		return k, nil
	}
	if err := parse16(kid[:], s, "key ID"); err != nil {
		return contentkey.KID{}, errors.New("key ID: not a UUID, 32 hexadecimal digits or the base64 of 16 bytes")
	}
	return kid, nil
}

// parse16 reads 16 bytes: 32 hexadecimal digits, after "0x" or not, or base64
// of the usual or the URL's alphabet, padded or not. The lengths tell them
// apart.
func parse16(into []byte, text, what string) error {
	digits := strings.TrimPrefix(strings.TrimPrefix(text, "0x"), "0X")
	var b []byte
	var err error
	switch len(strings.TrimRight(text, "=")) {
	case 32, 34:
		b, err = hex.DecodeString(digits)
	case 22:
		s := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		b, err = base64.RawStdEncoding.DecodeString(s)
	default:
		err = errors.New("length")
	}
	defer clear(b)
	if err != nil || len(b) != len(into) {
		return fmt.Errorf("%s: neither 32 hexadecimal digits nor the base64 of 16 bytes", what)
	}
	copy(into, b)
	return nil
}

// complete reports what a row must not lack. have says which fields it had.
func complete(k *keystore.ImportedKey, have [numFields]bool) error {
	switch {
	case !have[fieldKID]:
		return errors.New("it has no key ID")
	case !have[fieldKey]:
		return errors.New("it has no key")
	case [16]byte(k.KID) == [16]byte(k.Value):
		return errors.New("the key is its own key ID, which everybody knows")
	default:
		return nil
	}
}
