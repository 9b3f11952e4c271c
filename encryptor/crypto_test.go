package encryptor

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Known values of content key encryption.
const (
	vectorKey    = "89234eb6e0cde5370344b3159b6fccf0"
	vectorDocKey = "0477ff44c36bf3ecf1df48c657986c7d1137c6c4f3c1a7b710d3040f327d919c"
	vectorMACKey = "4c35fee9e76cf8ccd003b2a275c4da26dd50d211f9cf9714e4f7b6d2b61f239963c746a42fda9b7939fc3687f620c0eac40d0cef683fcbb0edc3f40da5a61072"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sealedExchange is the worked example with encryption for a recipient whose
// private key is known: the document key and MAC key of the vector wrapped
// anew, the encrypted content key and its MAC as they stand in the vector.
func sealedExchange(t *testing.T, recipient *Recipient) (*Request, string) {
	t.Helper()
	const example = "worked/v1-encrypted."
	asked, err := ReadRequest(nil, readFile(t, example+"request.xml"))
	if err != nil {
		t.Fatal(err)
	}
	request, answer := string(asked.Body), string(readFile(t, example+"answer.xml"))
	certificate := base64.StdEncoding.EncodeToString(recipient.Certificate.Raw)
	old := asked.doc.DeliveryData[0].Certificates[0]
	request = strings.Replace(request, old, certificate, 1)
	answer = strings.Replace(answer, old, certificate, 1)

	parsed, err := ReadAnswer(asked, answerHeader(V10), []byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	macKey := unhex(t, vectorMACKey)
	d := parsed.doc.DeliveryData[0]
	for key, s := range map[string]struct{ value, mac string }{
		vectorDocKey: {d.DocumentKey.CipherValue, d.DocumentKey.ValueMAC},
		vectorMACKey: {d.MACKey.CipherValue, d.MACKey.ValueMAC},
	} {
		c, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &recipient.Key.PublicKey, unhex(t, key), nil)
		if err != nil {
			t.Fatal(err)
		}
		h := hmac.New(sha512.New, macKey)
		h.Write(c)
		answer = strings.Replace(answer, s.value, base64.StdEncoding.EncodeToString(c), 1)
		answer = strings.Replace(answer, s.mac, base64.StdEncoding.EncodeToString(h.Sum(nil)), 1)
	}
	r, err := ReadRequest(nil, []byte(request), recipient)
	if err != nil {
		t.Fatal(err)
	}
	return r, answer
}

func TestReadAnswerOpensEncryptedKeys(t *testing.T) {
	recipient, err := NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r, body := sealedExchange(t, recipient)
	a, err := ReadAnswer(r, answerHeader(V10), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if k := a.Keys[0]; !k.HasValue || hex.EncodeToString(k.Value[:]) != vectorKey {
		t.Error("wrong content key")
	}
	for _, v := range a.Check() {
		t.Errorf("%v", v)
	}

	// The MAC key has three shapes (D-15): this one is of the PSKC schema.
	shape := strings.NewReplacer("<cpix:Key>", "<pskc:MACKey>", "</cpix:Key>", "</pskc:MACKey>")
	at := strings.Index(body, "<cpix:MACMethod")
	end := strings.Index(body, "</cpix:MACMethod>")
	method := shape.Replace(body[at:end])
	from, to := strings.Index(method, "<pskc:EncryptedValue>"), strings.Index(method, "</pskc:EncryptedValue>")
	value := method[from+len("<pskc:EncryptedValue>") : to]
	method = method[:from] + value + "</pskc:MACKey>"
	if a, err = ReadAnswer(r, answerHeader(V10), []byte(body[:at]+method+body[end:])); err != nil {
		t.Fatal(err)
	}
	if !a.Keys[0].HasValue || len(a.Check()) != 0 {
		t.Errorf("the MAC key of the PSKC schema: %v", a.Check())
	}
}

func TestCheckNamesFaultsOfEncryption(t *testing.T) {
	recipient, err := NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r, body := sealedExchange(t, recipient)
	const cipherValue = "+UhM3i9lOIOoLGRiBIAbtp7OEKbmTW+dLA30jmQcmdajaevxZVCsLuu9Ypa5az6Y"
	const mac = "f4/CQnVYDxiVvm7LOnbKFWbCRpozlTI0R75i99S+Qh8YcoO8kUVP21AG80m1REKfzaQVQXEIalFaRSxfhavLuQ=="
	for _, test := range []struct {
		name, old, new, rule string
	}{
		{"changed ciphertext", cipherValue, "A" + cipherValue[1:], "SX-CKE-08"},
		{"changed MAC", mac, "g" + mac[1:], "SX-CKE-08"},
		{"MAC of 32 bytes (D-16)", mac, base64.StdEncoding.EncodeToString(make([]byte, 32)), "SX-CKE-08"},
		{"no MAC", "<pskc:ValueMAC>" + mac + "</pskc:ValueMAC>", "", "SX-CKE-08"},
		{"ciphertext cut", cipherValue, cipherValue[:44], "SX-CKE-07"},
		{"another cipher", "http://www.w3.org/2001/04/xmlenc#aes256-cbc\"/>", "http://www.w3.org/2001/04/xmlenc#aes128-cbc\"/>", "SX-CKE-07"},
		{"plain value beside it", "<pskc:EncryptedValue>\n            <enc:EncryptionMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#aes256", "<pskc:PlainValue>bLcxV90728ySSyb8SX64eQ==</pskc:PlainValue><pskc:EncryptedValue>\n            <enc:EncryptionMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#aes256", "SX-CKE-10"},
		{"no document key", "cpix:DocumentKey", "cpix:DocumentKeyX", "SX-CKE-03"},
		{"no MAC method", "cpix:MACMethod", "cpix:MACMethodX", "SX-CKE-03"},
		{"another document key algorithm", `DocumentKey Algorithm="http://www.w3.org/2001/04/xmlenc#aes256-cbc"`, `DocumentKey Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"`, "SX-CKE-06"},
		{"another MAC algorithm", "hmac-sha512", "hmac-sha256", "SX-CKE-06"},
		{"another key wrapping", "rsa-oaep-mgf1p", "rsa-1_5", "SX-CKE-05"},
		{"another recipient's certificate", base64.StdEncoding.EncodeToString(recipient.Certificate.Raw), base64.StdEncoding.EncodeToString(stranger.Certificate.Raw), "SX-CKE-05"},
		{"another recipient's name", `id="origin-1"`, `id="origin-2"`, "S2-ECHO-10"},
		{"signature", "</cpix:CPIX>", "<ds:Signature/></cpix:CPIX>", "SX-CKE-13"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantRule(t, r, answerHeader(V10), changed(t, body, replaceAll(test.old, test.new)), test.rule)
		})
	}
	t.Run("content key in clear (SX-CKE-15)", func(t *testing.T) {
		from, to := strings.Index(body, "<pskc:Secret>\n          <pskc:EncryptedValue>\n            <enc:EncryptionMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#aes256"), strings.LastIndex(body, "</pskc:Secret>")
		clear := body[:from] + "<pskc:Secret><pskc:PlainValue>bLcxV90728ySSyb8SX64eQ==</pskc:PlainValue>" + body[to:]
		wantRule(t, r, answerHeader(V10), clear, "SX-CKE-10")
	})
	t.Run("encryption that was not asked for", func(t *testing.T) {
		from, to := strings.Index(string(r.Body), "<cpix:DeliveryDataList>"), strings.Index(string(r.Body), "<cpix:ContentKeyList>")
		plain, err := ReadRequest(nil, []byte(string(r.Body[:from])+string(r.Body[to:])))
		if err != nil {
			t.Fatal(err)
		}
		wantRule(t, plain, answerHeader(V10), body, "SX-CKE-01")
	})
	t.Run("wrong private key", func(t *testing.T) {
		wrong, err := ReadRequest(nil, r.Body, &Recipient{Certificate: recipient.Certificate, Key: stranger.Key})
		if err != nil {
			t.Fatal(err)
		}
		wantRule(t, wrong, answerHeader(V10), body, "SX-CKE-05")
	})
	t.Run("no private key", func(t *testing.T) {
		blind, err := ReadRequest(nil, r.Body)
		if err != nil {
			t.Fatal(err)
		}
		a, err := ReadAnswer(blind, answerHeader(V10), []byte(body))
		if err != nil || a.Keys[0].HasValue || len(a.Check()) != 0 {
			t.Errorf("%v, %v", err, a.Check())
		}
	})
}

func TestNewRecipient(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r, err := NewRecipient(now)
	if err != nil {
		t.Fatal(err)
	}
	c := r.Certificate
	if c.SignatureAlgorithm != x509.SHA512WithRSA || c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil {
		t.Errorf("signed with %s", c.SignatureAlgorithm)
	}
	if rsaBits(c) != 2048 || now.Before(c.NotBefore) || now.After(c.NotAfter) || !r.Key.PublicKey.Equal(c.PublicKey) {
		t.Errorf("%d bits, valid from %s to %s", rsaBits(c), c.NotBefore, c.NotAfter)
	}
	if s := fmt.Sprintf("%+v", r); s != "(recipient)" {
		t.Errorf("printed as %.40s", s)
	}
}
