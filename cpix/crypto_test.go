package cpix_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/cpix"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// The published vector: content key, document key, MAC key, IV and what they
// give.
const (
	vectorKey    = "89234eb6e0cde5370344b3159b6fccf0"
	vectorDocKey = "0477ff44c36bf3ecf1df48c657986c7d1137c6c4f3c1a7b710d3040f327d919c"
	vectorMACKey = "4c35fee9e76cf8ccd003b2a275c4da26dd50d211f9cf9714e4f7b6d2b61f239963c746a42fda9b7939fc3687f620c0eac40d0cef683fcbb0edc3f40da5a61072"
	vectorIV     = "f9484cde2f653883a82c646204801bb6"
	vectorCipher = "+UhM3i9lOIOoLGRiBIAbtp7OEKbmTW+dLA30jmQcmdajaevxZVCsLuu9Ypa5az6Y"
	vectorMAC    = "f4/CQnVYDxiVvm7LOnbKFWbCRpozlTI0R75i99S+Qh8YcoO8kUVP21AG80m1REKfzaQVQXEIalFaRSxfhavLuQ=="
)

// fixed hands out the given bytes and then nothing.
type fixed struct{ rest []byte }

func (f *fixed) Read(b []byte) (int, error) {
	if len(f.rest) == 0 {
		return 0, errors.New("no random bytes left")
	}
	n := copy(b, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// TestVector holds SX-CKE-07 and -08 against the published values.
func TestVector(t *testing.T) {
	random := &fixed{unhex(t, vectorDocKey+vectorMACKey+vectorIV)}
	sealer, err := cpix.NewSealer(random, nil)
	if err != nil {
		t.Fatal(err)
	}
	value := contentkey.Value(unhex(t, vectorKey))
	d := parse(t, `<CPIX xmlns="urn:dashif:org:cpix"><ContentKeyList><ContentKey kid="a"/></ContentKeyList></CPIX>`)
	if err := d.SetSealed(0, &value, sealer, nil); err != nil {
		t.Fatal(err)
	}
	want := `<CPIX xmlns="urn:dashif:org:cpix" xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc" xmlns:enc="http://www.w3.org/2001/04/xmlenc#">` +
		`<ContentKeyList><ContentKey kid="a"><Data><pskc:Secret><pskc:EncryptedValue>` +
		`<enc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes256-cbc"/><enc:CipherData><enc:CipherValue>` + vectorCipher + `</enc:CipherValue></enc:CipherData>` +
		`</pskc:EncryptedValue><pskc:ValueMAC>` + vectorMAC + `</pskc:ValueMAC></pskc:Secret></Data></ContentKey></ContentKeyList></CPIX>`
	if got := bytes(t, d); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(random.rest) != 0 {
		t.Errorf("%d random bytes were not used", len(random.rest))
	}
	if err := d.SetSealed(0, &value, sealer, nil); err == nil {
		t.Error("sealed without random bytes for an IV")
	}
	if _, err := cpix.NewSealer(&fixed{make([]byte, 95)}, nil); err == nil {
		t.Error("a sealer was made of too few random bytes")
	}
}

// TestVectorDocument holds that the MACs of the published document, which
// stand beside the RSA ciphertexts too, are those of its MAC key (SX-CKE-09).
func TestVectorDocument(t *testing.T) {
	d := parse(t, samples(t)["encrypted-aws"])
	for name, s := range map[string]*cpix.Secret{"document key": d.DeliveryData[0].DocumentKey, "MAC key": d.DeliveryData[0].MACKey, "content key": &d.ContentKeys[0].Secret} {
		c, err := base64.StdEncoding.DecodeString(s.CipherValue)
		if err != nil {
			t.Fatal(err)
		}
		if got := encode(mac(unhex(t, vectorMACKey), c)); got != s.ValueMAC {
			t.Errorf("%s: MAC %s, want %s", name, got, s.ValueMAC)
		}
	}
}

func mac(key, b []byte) []byte {
	h := hmac.New(sha512.New, key)
	h.Write(b)
	return h.Sum(nil)
}

type recipient struct {
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

// newRecipients makes two recipients once for all tests, since RSA keys are
// slow to make.
var newRecipients = sync.OnceValues(func() ([2]recipient, error) {
	var out [2]recipient
	for i := range out {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return out, err
		}
		cert, err := certify(&key.PublicKey, key)
		if err != nil {
			return out, err
		}
		out[i] = recipient{key, cert}
	}
	return out, nil
})

func recipients(t testing.TB) (a, b recipient) {
	t.Helper()
	r, err := newRecipients()
	if err != nil {
		t.Fatal(err)
	}
	return r[0], r[1]
}

// certify makes a certificate for a public key, signed by any other.
func certify(public, signer any) (*x509.Certificate, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "encryptor.example.com"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

const requestStart = `<cpix:CPIX contentId="c" version="2.3" xmlns:cpix="urn:dashif:org:cpix" xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><cpix:DeliveryDataList>`

func deliveryData(id string, certs ...*x509.Certificate) string {
	var b strings.Builder
	b.WriteString(`<cpix:DeliveryData id="` + id + `"><cpix:DeliveryKey><ds:X509Data>`)
	for _, c := range certs {
		text := encode(c.Raw)
		b.WriteString("<ds:X509Certificate>\n" + text[:64] + "\r\n\t" + text[64:] + "</ds:X509Certificate>") // line breaks are legal
	}
	b.WriteString(`</ds:X509Data></cpix:DeliveryKey><cpix:Description>d</cpix:Description></cpix:DeliveryData>`)
	return b.String()
}

const requestEnd = `</cpix:DeliveryDataList><cpix:ContentKeyList><cpix:ContentKey kid="a"/><cpix:ContentKey kid="b"/></cpix:ContentKeyList></cpix:CPIX>`

var values = [2]contentkey.Value{{0: 1, 15: 0xfe}, {0: 2, 15: 0xff}}

// sealed answers a request for two content keys.
func sealed(t testing.TB, request string, to ...*x509.Certificate) string {
	t.Helper()
	sealer, err := cpix.NewSealer(rand.Reader, to)
	if err != nil {
		t.Fatal(err)
	}
	d := parse(t, request)
	if err := d.SetDelivery(sealer); err != nil {
		t.Fatal(err)
	}
	for i := range values {
		if err := d.SetSealed(i, &values[i], sealer, nil); err != nil {
			t.Fatal(err)
		}
	}
	return bytes(t, d)
}

// open reads both content keys as a recipient.
func open(d *cpix.Document, r recipient) error {
	o, err := d.Opener(r.key, r.cert)
	if err != nil {
		return err
	}
	for i := range values {
		v, err := o.Open(&d.ContentKeys[i].Secret)
		if err != nil {
			return err
		}
		if v != values[i] {
			return fmt.Errorf("content key %d is another", i)
		}
	}
	return nil
}

// TestSealAndOpen holds that each recipient, and nobody else, can open the
// content keys (SX-CKE-03 to -09, CPIX-CRY-06).
func TestSealAndOpen(t *testing.T) {
	a, b := recipients(t)
	doc := sealed(t, requestStart+deliveryData("1", a.cert)+deliveryData("2", b.cert)+requestEnd, a.cert, b.cert)
	d := parse(t, doc)
	for name, r := range map[string]recipient{"a": a, "b": b, "by public key": {a.key, nil}} {
		if err := open(d, r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Opener(c, nil); err == nil {
		t.Error("a stranger found a recipient")
	}
	if _, err := d.Opener(c, a.cert); !errors.Is(err, cpix.ErrDecrypt) {
		t.Errorf("the wrong private key: %v", err)
	}
	if strings.Contains(doc, "PlainValue") {
		t.Error("SX-CKE-10: a PlainValue")
	}
	if !strings.Contains(doc, `</cpix:DeliveryKey><cpix:DocumentKey Algorithm="http://www.w3.org/2001/04/xmlenc#aes256-cbc"><cpix:Data><pskc:Secret>`) ||
		!strings.Contains(doc, `</cpix:DocumentKey><cpix:MACMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#hmac-sha512"><cpix:Key><pskc:EncryptedValue>`) ||
		!strings.Contains(doc, `</cpix:MACMethod><cpix:Description>`) {
		t.Error("DocumentKey and MACMethod are not behind DeliveryKey in the shape of AWS")
	}
	for i := range d.DeliveryData {
		for _, s := range []*cpix.Secret{d.DeliveryData[i].DocumentKey, d.DeliveryData[i].MACKey} {
			c, _ := base64.StdEncoding.DecodeString(s.CipherValue)
			m, _ := base64.StdEncoding.DecodeString(s.ValueMAC)
			if len(c) != 256 || len(m) != 64 {
				t.Errorf("%d and %d bytes, want 256 and 64", len(c), len(m))
			}
		}
	}
}

// TestDeliveryPrefixes holds that what DeliveryKey declares for itself is not
// used behind it, where it does not hold.
func TestDeliveryPrefixes(t *testing.T) {
	a, _ := recipients(t)
	doc := sealed(t, `<CPIX xmlns="urn:dashif:org:cpix"><DeliveryDataList><DeliveryData>`+
		`<k:DeliveryKey xmlns:k="urn:dashif:org:cpix" xmlns:enc="http://www.w3.org/2001/04/xmlenc#" xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc">`+
		`<X509Data xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Certificate>`+encode(a.cert.Raw)+`</X509Certificate></X509Data></k:DeliveryKey>`+
		`</DeliveryData></DeliveryDataList><ContentKeyList><ContentKey kid="a"/><ContentKey kid="b"/></ContentKeyList></CPIX>`, a.cert)
	if err := open(parse(t, doc), a); err != nil {
		t.Errorf("%v\n%s", err, doc)
	}
}

// TestShapesOfMACMethod holds that the three shapes in use are read (D-15).
func TestShapesOfMACMethod(t *testing.T) {
	a, _ := recipients(t)
	aws := sealed(t, requestStart+deliveryData("1", a.cert)+requestEnd, a.cert)
	start, end := strings.Index(aws, "<cpix:Key>"), strings.Index(aws, "</cpix:Key>")+len("</cpix:Key>")
	inner := aws[start:end]
	encrypted := inner[strings.Index(inner, "<enc:EncryptionMethod"):strings.Index(inner, "</pskc:EncryptedValue>")]
	for name, shape := range map[string]string{
		"AWS":                  inner,
		"schema":               "<pskc:MACKey>" + encrypted + "</pskc:MACKey>",
		"Axinom":               "<cpix:Key>" + encrypted + "</cpix:Key>",
		"no method named":      "<pskc:MACKey>" + strings.Replace(encrypted, `<enc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"/>`, "", 1) + "</pskc:MACKey>", // CPIX-CRY-11
		"schema and something": "<x/><pskc:MACKey>" + encrypted + "</pskc:MACKey>",
	} {
		if err := open(parse(t, aws[:start]+shape+aws[end:]), a); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A forger knows the keys of a document and seals anything under them.
type forger struct{ documentKey, macKey []byte }

func newForger() forger {
	keys := make([]byte, 32+64)
	_, _ = rand.Read(keys)
	return forger{keys[:32], keys[32:]}
}

func (f forger) encrypt(t testing.TB, padded []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(f.documentKey)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 16+len(padded))
	cipher.NewCBCEncrypter(block, out[:16]).CryptBlocks(out[16:], padded)
	return out
}

// document wraps the keys for a recipient and takes any bytes as content key.
func (f forger) document(t testing.TB, to recipient, cipherValue, valueMAC []byte) *cpix.Document {
	t.Helper()
	wrap := func(key []byte) string {
		c, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &to.key.PublicKey, key, nil)
		if err != nil {
			t.Fatal(err)
		}
		return `<enc:CipherData><enc:CipherValue>` + encode(c) + `</enc:CipherValue></enc:CipherData>`
	}
	return parse(t, `<cpix:CPIX xmlns:cpix="urn:dashif:org:cpix" xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" xmlns:enc="http://www.w3.org/2001/04/xmlenc#">`+
		`<cpix:DeliveryDataList><cpix:DeliveryData><cpix:DeliveryKey><ds:X509Data><ds:X509Certificate>`+encode(to.cert.Raw)+`</ds:X509Certificate></ds:X509Data></cpix:DeliveryKey>`+
		`<cpix:DocumentKey><cpix:Data><pskc:Secret><pskc:EncryptedValue>`+wrap(f.documentKey)+`</pskc:EncryptedValue></pskc:Secret></cpix:Data></cpix:DocumentKey>`+
		`<cpix:MACMethod Algorithm="`+cpix.AlgorithmHMACSHA512+`"><pskc:MACKey>`+wrap(f.macKey)+`</pskc:MACKey></cpix:MACMethod></cpix:DeliveryData></cpix:DeliveryDataList>`+
		`<cpix:ContentKeyList><cpix:ContentKey kid="a"><cpix:Data><pskc:Secret><pskc:EncryptedValue><enc:CipherData><enc:CipherValue>`+encode(cipherValue)+`</enc:CipherValue></enc:CipherData></pskc:EncryptedValue>`+
		`<pskc:ValueMAC>`+encode(valueMAC)+`</pskc:ValueMAC></pskc:Secret></cpix:Data></cpix:ContentKey></cpix:ContentKeyList></cpix:CPIX>`)
}

// TestOneErrorForAllFaults holds that keys, MACs, lengths and padding are
// checked and that their faults cannot be told apart (CPIX-CRY-04, -10,
// CPIX-NEG-01, -02).
func TestOneErrorForAllFaults(t *testing.T) {
	a, _ := recipients(t)
	f := newForger()
	key := make([]byte, 16)
	pad := func(n int) []byte { return []byte(strings.Repeat(string(rune(n)), n)) }
	good := f.encrypt(t, append(key, pad(16)...))
	flipped := append([]byte(nil), good...)
	flipped[20] ^= 1
	for _, c := range []struct {
		name   string
		forger forger
		cipher []byte
		mac    []byte
		ok     bool
	}{
		{"nothing wrong", f, good, mac(f.macKey, good), true},
		{"bit flipped", f, flipped, mac(f.macKey, good), false},
		{"MAC cut to 32 bytes", f, good, mac(f.macKey, good)[:32], false},
		{"no MAC", f, good, nil, false},
		{"padding of zeros", f, f.encrypt(t, append(key, make([]byte, 16)...)), nil, false},
		{"padding with another byte", f, f.encrypt(t, append(append(key, pad(16)[:15]...), 1)), nil, false},
		{"15 bytes", f, f.encrypt(t, append(key[:15:15], 1)), nil, false},
		{"32 bytes", f, f.encrypt(t, append(append(key[:16:16], key...), pad(16)...)), nil, false},
		{"IV alone", f, good[:16], nil, false},
		{"odd length", f, good[:47], nil, false},
		{"empty", f, []byte{}, nil, false},
		{"document key of 16 bytes", forger{f.documentKey[:16], f.macKey}, good, mac(f.macKey, good), false},
		{"MAC key of 32 bytes", forger{f.documentKey, f.macKey[:32]}, good, mac(f.macKey[:32], good), false},
	} {
		if c.mac == nil && c.name != "no MAC" {
			c.mac = mac(c.forger.macKey, c.cipher)
		}
		d := c.forger.document(t, a, c.cipher, c.mac)
		o, err := d.Opener(a.key, a.cert)
		if err == nil {
			_, err = o.Open(&d.ContentKeys[0].Secret)
		}
		if c.ok != (err == nil) || err != nil && err.Error() != cpix.ErrDecrypt.Error() {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestOpenerRefuses holds what a reader refuses before it decrypts anything:
// other algorithms, parts that are missing, plain keys among encrypted ones
// (CPIX-CRY-11, CPIX-INT-11, CPIX-NEG-03), MACs beside the wrapped keys that
// are wrong (CPIX-CRY-13).
func TestOpenerRefuses(t *testing.T) {
	a, _ := recipients(t)
	good := sealed(t, requestStart+deliveryData("1", a.cert)+requestEnd, a.cert)
	cut := func(doc, from, to string) string {
		i := strings.Index(doc, from)
		j := i + strings.Index(doc[i:], to) + len(to)
		return doc[:i] + doc[j:]
	}
	replace := func(old, to string, n int) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the document", old)
		}
		return strings.Replace(good, old, to, n)
	}
	last := strings.LastIndex(good[:strings.Index(good, "</cpix:DocumentKey>")], "<pskc:ValueMAC>") + len("<pskc:ValueMAC>")
	for name, doc := range map[string]string{
		"another MAC algorithm":        replace("#hmac-sha512", "#hmac-sha256", 1),
		"another key wrapping":         replace("#rsa-oaep-mgf1p", "#rsa-1_5", -1),
		"another content encryption":   strings.Replace(good, `EncryptionMethod Algorithm="`+cpix.AlgorithmAES256CBC, `EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc`, -1),
		"no DocumentKey":               cut(good, "<cpix:DocumentKey", "</cpix:DocumentKey>"),
		"no MACMethod":                 cut(good, "<cpix:MACMethod", "</cpix:MACMethod>"),
		"no DeliveryData":              cut(good, "<cpix:DeliveryDataList>", "</cpix:DeliveryDataList>"),
		"MAC key of plain text":        cut(good, "<cpix:Key>", "</cpix:Key>"),
		"a plain content key":          good[:strings.Index(good, "<cpix:ContentKeyList>")] + `<cpix:ContentKeyList><cpix:ContentKey kid="a"><cpix:Data><pskc:Secret><pskc:PlainValue>AAAAAAAAAAAAAAAAAAAAAA==</pskc:PlainValue></pskc:Secret></cpix:Data></cpix:ContentKey></cpix:ContentKeyList></cpix:CPIX>`,
		"wrong MAC of the wrapped key": good[:last] + encode(make([]byte, 64)) + good[last+88:],
	} {
		d := parse(t, doc)
		o, err := d.Opener(a.key, a.cert)
		if err == nil {
			_, err = o.Open(&d.ContentKeys[0].Secret)
		}
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if err := open(parse(t, good[:last]+encode(make([]byte, 32))+good[last+88:]), a); err != nil {
		t.Errorf("a MAC of another length beside a wrapped key counts: %v", err)
	}
}

// TestPlain holds which texts are content keys in clear.
func TestPlain(t *testing.T) {
	for text, ok := range map[string]bool{
		"AAECAwQFBgcICQoLDA0ODw==":   true,
		"AAECAwQF BgcICQoLDA0ODw==":  true, // white space inside is legal
		"AAECAwQFBgcICQoLDA0ODz==":   true, // and so are trailing bits
		"AAECAwQFBgcICQoLDA0O":       false,
		"AAECAwQFBgcICQoLDA0ODxA=":   false,
		"AAECAwQFBgcICQoLDA0ODw":     false,
		"00010203-not-base64":        false,
		"AAECAwQFBgcICQoLDA0ODw==AA": false,
		"":                           false,
	} {
		s := cpix.Secret{PlainValue: text}
		if _, err := s.Plain(); ok != (err == nil) {
			t.Errorf("%q: %v", text, err)
		} else if err != nil && text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
	s := cpix.Secret{PlainValue: "AAECAwQFBgcICQoLDA0ODw==", CipherValue: "AA=="} // CPIX-RD-09
	if _, err := s.Plain(); err == nil {
		t.Error("a plain and an encrypted value at once")
	}
}

// TestParseCertificate holds SX-CKE-11 and S2-ERR-38 for one certificate.
func TestParseCertificate(t *testing.T) {
	a, _ := recipients(t)
	text := encode(a.cert.Raw)
	for name, good := range map[string]string{
		"as it is":               text,
		"with line breaks":       text[:76] + "\r\n" + text[76:152] + "\n  " + text[152:] + "\n",
		"expired, self-signed":   text, // judged by policy, not here
		"of 3072 bits":           certOfBits(t, a, 3072),
		"of 8192 bits, the most": certOfBits(t, a, 8192),
	} {
		if _, err := cpix.ParseCertificate(good); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := certify(&ec.PublicKey, ec)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"nothing":      "",
		"not base64":   "MII*",
		"not DER":      encode([]byte("certificate")),
		"cut off":      encode(a.cert.Raw[:len(a.cert.Raw)-1]),
		"with a tail":  encode(append(append([]byte(nil), a.cert.Raw...), 0)),
		"PEM":          "-----BEGIN CERTIFICATE-----" + text + "-----END CERTIFICATE-----",
		"elliptic":     encode(other.Raw),
		"of 1024 bits": certOfBits(t, a, 1024),
		"of 2047 bits": certOfBits(t, a, 2047),
		"of 8193 bits": certOfBits(t, a, 8193),
	} {
		if _, err := cpix.ParseCertificate(bad); !errors.Is(err, cpix.ErrCertificate) {
			t.Errorf("%s: %v, want ErrCertificate", name, err)
		}
	}
}

// certOfBits certifies a modulus that nobody knows the factors of.
func certOfBits(t testing.TB, signer recipient, bits int) string {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	n.Add(n, big.NewInt(1))
	cert, err := certify(&rsa.PublicKey{N: n, E: 65537}, signer.key)
	if err != nil {
		t.Fatal(err)
	}
	return encode(cert.Raw)
}

// TestSetDeliveryRefuses holds that a document and the sealer of other
// recipients do not come together.
func TestSetDeliveryRefuses(t *testing.T) {
	a, b := recipients(t)
	two, err := cpix.NewSealer(rand.Reader, []*x509.Certificate{a.cert, b.cert})
	if err != nil {
		t.Fatal(err)
	}
	if err := parse(t, requestStart+deliveryData("1", a.cert)+requestEnd).SetDelivery(two); err == nil {
		t.Error("two recipients for one DeliveryData")
	}
	if err := parse(t, requestStart+deliveryData("1", a.cert)+`<cpix:DeliveryData/>`+requestEnd).SetDelivery(two); err == nil {
		t.Error("a DeliveryData without DeliveryKey")
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cpix.NewSealer(rand.Reader, []*x509.Certificate{{PublicKey: &ec.PublicKey}}); !errors.Is(err, cpix.ErrCertificate) {
		t.Errorf("a recipient without RSA: %v", err)
	}
}
