package keylist_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/encryptor"
	"spekeasy/internal/keylist"
	"spekeasy/internal/keystore"
)

var (
	kid   = contentkey.KID{0x0d, 0x6b, 0x40, 0x13, 0x9b, 0x5d, 0x4e, 0x3f, 0xa1, 0x0c, 0x5e, 0x9d, 0x6b, 0x8f, 0x2a, 0x77}
	value = contentkey.Value{0xfb, 0xff, 0x3e, 0x00, 0x55, 0xaa, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0}
	iv    = contentkey.IV{0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
)

// full is a key with all that a row can have.
func full() keystore.ImportedKey {
	return keystore.ImportedKey{
		KID: kid, Value: value, IV: iv, HasIV: true, ContentID: "movie", Track: "HD", Scheme: contentkey.Cbcs,
		Period: contentkey.Period{ID: "p", Index: "7", Start: "2026-11-22T12:00:00Z", End: "2026-11-22T13:00:00Z"},
	}
}

func bare() keystore.ImportedKey { return keystore.ImportedKey{KID: kid, Value: value} }

func open(f keylist.Format, text string) (keylist.Reader, error) {
	switch f {
	case keylist.CPIX:
		return keylist.NewCPIXReader(strings.NewReader(text), nil)
	case keylist.JSONL:
		return keylist.NewJSONReader(strings.NewReader(text)), nil
	default:
		return keylist.NewCSVReader(strings.NewReader(text))
	}
}

// readAll reads the keys and the errors of all rows.
func readAll(r keylist.Reader) (keys []keystore.ImportedKey, bad []error, err error) {
	for {
		k, err := r.Read()
		if errors.Is(err, io.EOF) {
			return keys, bad, nil
		}
		if _, ok := errors.AsType[*keylist.RowError](err); ok {
			bad = append(bad, err)
			continue
		}
		if err != nil {
			return keys, bad, err
		}
		keys = append(keys, k)
	}
}

// TestSpellings reads one key as different products write it.
func TestSpellings(t *testing.T) {
	uuid, hexKID := kid.String(), hex.EncodeToString(kid[:])
	hexKey, hexIV := hex.EncodeToString(value[:]), hex.EncodeToString(iv[:])
	std, url := base64.StdEncoding.EncodeToString(value[:]), base64.URLEncoding.EncodeToString(value[:])
	raw, ivStd := base64.RawURLEncoding.EncodeToString(value[:]), base64.StdEncoding.EncodeToString(iv[:])
	withIV := bare()
	withIV.IV, withIV.HasIV = iv, true
	inContent := withIV
	inContent.ContentID, inContent.Track, inContent.Scheme = "movie", "HD", contentkey.Cbcs
	for name, c := range map[string]struct {
		format keylist.Format
		text   string
		want   keystore.ImportedKey
	}{
		"CSV":                    {keylist.CSV, "kid,key,iv\n" + uuid + "," + hexKey + "," + hexIV + "\n", withIV},
		"CSV of Excel in Europe": {keylist.CSV, "\ufeffKey ID;Key (base64);IV\r\n{" + strings.ToUpper(uuid) + "};" + std + ";" + ivStd + "\r\n", withIV},
		"tabs, empty columns":    {keylist.CSV, "key_id\tnote\tiv\tkeyValue\n" + hexKID + "\t\t\t0x" + strings.ToUpper(hexKey), bare()},
		"quoted, spaced":         {keylist.CSV, "\"KeyId\", \"Content Key\", Comment\n\"" + uuid + "\", \"" + url + "\", \"a, b\"\n", bare()},
		"our own columns": {keylist.CSV, "kid,key,iv,scheme,content_id,track,period_id,period_index,period_start,period_end,source,created\n" +
			uuid + "," + hexKey + "," + hexIV + ",cbcs,movie,HD,p,7,2026-11-22T12:00:00Z,2026-11-22T13:00:00Z,random,2026-11-22T12:00:00Z\n", full()},
		"JSON":                 {keylist.JSONL, `{"kid":"` + uuid + `","key":"` + hexKey + `","iv":"` + hexIV + "\"}\n", withIV},
		"JSON in camel case":   {keylist.JSONL, `{"KeyId":"` + uuid + `","KeyValue":"` + std + `","ContentId":"movie","IV":"` + ivStd + `","trackType":"HD","Scheme":"CBCS","Tags":["x"]}`, inContent},
		"JSON with base64url":  {keylist.JSONL, "\ufeff\n" + `{"key_id":"urn:uuid:` + uuid + `","k":1,"key":"` + raw + `","iv":null}`, bare()},
		"JSON with base64 KID": {keylist.JSONL, `{"kid":"` + base64.StdEncoding.EncodeToString(kid[:]) + `","key":"` + hexKey + `"}`, bare()},
		"CPIX in clear": {keylist.CPIX, `<CPIX xmlns="urn:dashif:org:cpix" xmlns:p="urn:ietf:params:xml:ns:keyprov:pskc" contentId="movie"><ContentKeyList>
			<ContentKey kid="` + strings.ToUpper(uuid) + `" explicitIV="` + ivStd + `" commonEncryptionScheme="cbcs"><Data><p:Secret><p:PlainValue>` + std + `</p:PlainValue></p:Secret></Data></ContentKey>
			</ContentKeyList><ContentKeyPeriodList><ContentKeyPeriod id="p" index="7" start="2026-11-22T12:00:00Z" end="2026-11-22T13:00:00Z"/></ContentKeyPeriodList>
			<ContentKeyUsageRuleList><ContentKeyUsageRule kid="` + uuid + `" intendedTrackType="HD"><KeyPeriodFilter periodId="p"/><VideoFilter/></ContentKeyUsageRule>
			<ContentKeyUsageRule kid="` + uuid + `" intendedTrackType="SD"/></ContentKeyUsageRuleList></CPIX>`, full()},
	} {
		if f, err := keylist.Detect("export", []byte(c.text)); f != c.format || err != nil {
			t.Errorf("%s: taken for %q, %v", name, f, err)
		}
		r, err := open(c.format, c.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		keys, bad, err := readAll(r)
		if len(bad) > 0 || err != nil || len(keys) != 1 || keys[0] != c.want {
			t.Errorf("%s: as expected %t, rows refused: %v, %v", name, len(keys) == 1 && keys[0] == c.want, bad, err)
		}
	}
}

// TestRefused reads what cannot be understood in one way. No error may show
// a key.
func TestRefused(t *testing.T) {
	uuid, key := kid.String(), hex.EncodeToString(value[:])
	row := uuid + "," + key + "\n"
	object := `{"kid":"` + uuid + `","key":"` + key + `"}` + "\n"
	for name, c := range map[string]struct {
		format keylist.Format
		text   string
		want   string
		good   int // rows that are read
	}{
		"a KID of 15 bytes":        {keylist.CSV, "kid,key\n" + uuid[2:] + "," + key + "\n" + row, "line 2: key ID: not a UUID", 1},
		"a KID like a key's path":  {keylist.CSV, "kid,key\nmovie-1," + key + "\n" + row, "line 2: key ID: not a UUID", 1},
		"a key of 17 bytes":        {keylist.CSV, "kid,key\n" + uuid + "," + key + "00\n" + row, "line 2: key: neither 32", 1},
		"a key of 8 bytes":         {keylist.CSV, "kid,key\n" + uuid + "," + key[:16] + "\n" + row, "line 2: key: neither 32", 1},
		"a key with a letter O":    {keylist.CSV, "kid,key\n" + uuid + "," + strings.Replace(key, "0", "O", 1) + "\n" + row, "line 2: key: neither 32", 1},
		"no key":                   {keylist.CSV, "kid,key\n" + uuid + ",\n" + row, "line 2: it has no key", 1},
		"no KID":                   {keylist.CSV, "kid,key\n ," + key + "\n" + row, "line 2: it has no key ID", 1},
		"a key that is its KID":    {keylist.CSV, "kid,key\n" + uuid + "," + hex.EncodeToString(kid[:]) + "\n" + row, "line 2: the key is its own key ID", 1},
		"an IV of 8 bytes":         {keylist.CSV, "kid,key,iv\n" + uuid + "," + key + ",0001020304050607\n", "line 2: IV: neither 32", 0},
		"an unknown scheme":        {keylist.CSV, "kid,key,scheme\n" + uuid + "," + key + ",aes\n", "line 2: scheme: none of", 0},
		"a column too many":        {keylist.CSV, "kid,key\n" + uuid + "," + key + ",x\n" + row, "line 2: wrong number of fields", 1},
		"a stray quotation mark":   {keylist.CSV, "kid,key\n" + uuid + ",\"" + key + "\"x\n" + row, `line 2: extraneous or missing " in quoted-field`, 1},
		"content ID not UTF-8":     {keylist.CSV, "kid,key,content_id\n" + uuid + "," + key + ",\xff\n", "line 2: content ID: not UTF-8", 0},
		"no heading":               {keylist.CSV, row, "the first line must name the columns", 0},
		"no key column":            {keylist.CSV, "kid,iv\n", "the first line must name the columns", 0},
		"two key columns":          {keylist.CSV, "kid,key,key_hex\n", "two columns have the key", 0},
		"no file":                  {keylist.CSV, "", "reading the heading of CSV: EOF", 0},
		"not JSON":                 {keylist.JSONL, "{" + key + "}\n" + object, "line 1: not a JSON object", 1},
		"two objects in a line":    {keylist.JSONL, object + strings.TrimSpace(object) + object, "line 2: not a JSON object", 1},
		"a JSON text":              {keylist.JSONL, `"` + key + `"`, "line 1: not a JSON object", 0},
		"an object in a member":    {keylist.JSONL, `{"kid":"` + uuid + `","key":{"k":"` + key + `"}}`, "line 1: key: neither text nor number", 0},
		"two members for one":      {keylist.JSONL, `{"kid":"` + uuid + `","key":"` + key + `","keyHex":"` + key + `"}`, "line 1: two members have the key", 0},
		"no JSON key":              {keylist.JSONL, `{"kid":"` + uuid + `","key":""}`, "line 1: it has no key", 0},
		"a number for a key":       {keylist.JSONL, `{"kid":"` + uuid + `","key":12}`, "line 1: key: neither 32", 0},
		"no XML":                   {keylist.CPIX, "<CPIX", "CPIX: XML line 1", 0},
		"another document":         {keylist.CPIX, "<a/>", "CPIX: root element is not CPIX", 0},
		"CPIX without value":       {keylist.CPIX, `<CPIX xmlns="urn:dashif:org:cpix"><ContentKeyList><ContentKey kid="` + uuid + `"/></ContentKeyList></CPIX>`, "ContentKey 1: content key has no plain value", 0},
		"CPIX without KID":         {keylist.CPIX, `<CPIX xmlns="urn:dashif:org:cpix"><ContentKeyList><ContentKey/></ContentKeyList></CPIX>`, "ContentKey 1: it has no key ID", 0},
		"CPIX with a bad IV":       {keylist.CPIX, `<CPIX xmlns="urn:dashif:org:cpix"><ContentKeyList><ContentKey kid="` + uuid + `" explicitIV="AA=="/></ContentKeyList></CPIX>`, "ContentKey 1: explicitIV", 0},
		"CPIX for somebody else":   {keylist.CPIX, `<CPIX xmlns="urn:dashif:org:cpix"><DeliveryDataList><DeliveryData/></DeliveryDataList></CPIX>`, "the content keys are encrypted; the recipient's private key is needed", 0},
		"an endless quoted field":  {keylist.CSV, "kid,key\n" + row + uuid + ",\"" + strings.Repeat(key+"\n", 1<<17), "a row is longer than 1048576 bytes", 1},
		"an endless line of JSON":  {keylist.JSONL, object + `{"kid":"` + strings.Repeat(key, 1<<16), "line 2 is longer than 1048576 bytes", 1},
		"a content ID of 64 KiB+1": {keylist.JSONL, `{"kid":"` + uuid + `","key":"` + key + `","content_id":"` + strings.Repeat("x", 64<<10+1) + `"}`, "line 1: content ID", 0},
	} {
		var keys []keystore.ImportedKey
		var bad []error
		r, err := open(c.format, c.text)
		if err == nil {
			keys, bad, err = readAll(r)
		}
		if err != nil {
			bad = append(bad, err)
		}
		if len(bad) != 1 || !strings.Contains(bad[0].Error(), c.want) || len(keys) != c.good {
			t.Errorf("%s: %d rows, %v; want %d rows, %q", name, len(keys), bad, c.good, c.want)
		}
		for _, err := range bad {
			if strings.Contains(err.Error(), key[:8]) {
				t.Errorf("%s: the error shows a key: %v", name, err)
			}
		}
	}
}

func TestDetect(t *testing.T) {
	for name, c := range map[string]struct {
		file, head string
		want       keylist.Format
	}{
		"a name":          {"keys.JSONL", "<", keylist.JSONL},
		"another name":    {"keys.xml", "{", keylist.CPIX},
		"tabs":            {"keys.tsv", "", keylist.CSV},
		"XML":             {"keys", " \n<?xml", keylist.CPIX},
		"XML with a mark": {"keys.txt", "\ufeff<CPIX", keylist.CPIX},
		"JSON":            {"-", "{\"", keylist.JSONL},
		"neither":         {"keys.txt", "kid,key", keylist.CSV},
	} {
		if f, err := keylist.Detect(c.file, []byte(c.head)); f != c.want || err != nil {
			t.Errorf("%s: %q, %v", name, f, err)
		}
	}
	for head, want := range map[string]string{"[{": "jq -c '.[]' keys", " \n": "keys is empty"} {
		if _, err := keylist.Detect("keys", []byte(head)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", head, err)
		}
	}
	if _, err := keylist.ParseFormat("xlsx"); err == nil {
		t.Error("xlsx is a format")
	}
}

// many returns rows with different keys and odd texts.
func many(n int) []keylist.Row {
	texts := []string{"movie", "", `a "quoted", ` + "title\nin lines", "Größe/映画 & <b>", " spaces ", "=1+1", "a\tb"}
	var all []keylist.Row
	for i := range n {
		r := keylist.Row{ImportedKey: full(), Source: "random", Created: time.Date(2026, 11, 22, 12, 0, 0, 1000*i, time.UTC)}
		r.KID[15], r.KID[14], r.Value[0], r.Value[1] = byte(i), byte(i>>8), byte(i), byte(i>>8)
		r.ContentID, r.Track = texts[i%len(texts)], texts[(i+3)%len(texts)]
		if i%3 == 0 {
			r.HasIV, r.IV, r.Scheme, r.Period = false, contentkey.IV{}, 0, contentkey.Period{}
		}
		all = append(all, r)
	}
	return all
}

func write(t *testing.T, w keylist.Writer, err error, rows []keylist.Row) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if err := w.Write(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, what string, r keylist.Reader, err error, want []keystore.ImportedKey) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	got, bad, err := readAll(r)
	if len(bad) > 0 || err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %d of %d keys, the same %t, rows refused %v, %v", what, len(got), len(want), reflect.DeepEqual(got, want), bad, err)
	}
}

// TestRoundTrip reads what was written. CPIX has less to say of a key.
func TestRoundTrip(t *testing.T) {
	rows := many(1203)
	var all, fewer []keystore.ImportedKey
	for _, r := range rows {
		all = append(all, r.ImportedKey)
		r.ContentID, r.Track, r.Period = "", "", contentkey.Period{}
		fewer = append(fewer, r.ImportedKey)
	}
	var out bytes.Buffer
	w, err := keylist.NewCSVWriter(&out)
	write(t, w, err, rows)
	r, err := keylist.NewCSVReader(&out)
	check(t, "CSV", r, err, all)

	write(t, keylist.NewJSONWriter(&out), nil, rows)
	check(t, "JSON lines", keylist.NewJSONReader(&out), nil, all)

	w, err = keylist.NewCPIXWriter(&out, rand.Reader, "", nil)
	write(t, w, err, rows)
	r, err = keylist.NewCPIXReader(&out, nil)
	check(t, "CPIX in clear", r, err, fewer)

	to, err := encryptor.NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for i := range fewer {
		fewer[i].ContentID = `one & "only"`
	}
	w, err = keylist.NewCPIXWriter(&out, rand.Reader, `one & "only"`, to.Certificate)
	write(t, w, err, rows)
	text := out.String()
	for i := range fewer {
		if strings.Contains(text, base64.StdEncoding.EncodeToString(fewer[i].Value[:])) {
			t.Fatal("a key is in clear")
		}
	}
	r, err = keylist.NewCPIXReader(strings.NewReader(text), &keylist.Recipient{Key: to.Key, Cert: to.Certificate})
	check(t, "encrypted CPIX", r, err, fewer)
	r, err = keylist.NewCPIXReader(strings.NewReader(text), &keylist.Recipient{Key: to.Key})
	check(t, "encrypted CPIX without the certificate", r, err, fewer)
	other, err := encryptor.NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keylist.NewCPIXReader(strings.NewReader(text), &keylist.Recipient{Key: other.Key}); err == nil {
		t.Error("another recipient opens it")
	}
	if _, err := keylist.NewCPIXReader(strings.NewReader(text), &keylist.Recipient{Key: other.Key, Cert: to.Certificate}); !errors.Is(err, cpix.ErrDecrypt) {
		t.Errorf("another private key: %v", err)
	}

	file := t.TempDir() + "/keys.xml"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("xmllint", "--noout", file).CombinedOutput(); err != nil {
		t.Errorf("xmllint: %v: %s", err, out)
	}
}

func TestEmptyList(t *testing.T) {
	var out bytes.Buffer
	w, err := keylist.NewCPIXWriter(&out, rand.Reader, "", nil)
	write(t, w, err, nil)
	r, err := keylist.NewCPIXReader(&out, nil)
	check(t, "CPIX", r, err, nil)
	w, err = keylist.NewCSVWriter(&out)
	write(t, w, err, nil)
	r, err = keylist.NewCSVReader(&out)
	check(t, "CSV", r, err, nil)
}

// FuzzRead holds that nothing panics, and that a list that was read is the
// same once written and read again.
func FuzzRead(f *testing.F) {
	for _, r := range many(7) {
		f.Add(fmt.Sprintf("kid,key,content_id\n%s,%x,%q\n", r.KID, r.Value[:], r.ContentID))
		f.Add(fmt.Sprintf("{\"kid\":%q,\"key\":\"%x\",\"track\":%q}\n", r.KID, r.Value[:], r.Track))
	}
	f.Add(`<CPIX xmlns="urn:dashif:org:cpix"><ContentKeyList><ContentKey kid="` + kid.String() + `"/></ContentKeyList></CPIX>`)
	f.Fuzz(func(t *testing.T, text string) {
		format, err := keylist.Detect("", []byte(text))
		if err != nil {
			return
		}
		r, err := open(format, text)
		if err != nil {
			return
		}
		keys, _, _ := readAll(r)
		var rows []keylist.Row
		for _, k := range keys {
			rows = append(rows, keylist.Row{ImportedKey: k})
		}
		var out bytes.Buffer
		write(t, keylist.NewJSONWriter(&out), nil, rows)
		check(t, "again", keylist.NewJSONReader(&out), nil, keys)
	})
}
