package server_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
)

// run starts a program that knows nothing of our code and returns what it
// prints. A program that is missing fails the test; scripts/testdeps.sh
// installs them all.
func run(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return out
}

// TestExchangesAreSound holds of every stored answer with status 200 that
// libxml2 finds it well-formed and that our own encryptor, which parses
// signaling with code of its own, finds no rule broken.
func TestExchangesAreSound(t *testing.T) {
	files, err := filepath.Glob(exchanges)
	if err != nil || len(files) < 100 {
		t.Fatalf("%d exchanges, %v", len(files), err)
	}
	dir := t.TempDir()
	var documents []string
	for _, name := range files {
		ar, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		body, ok := file(ar, "response.xml")
		if !ok {
			continue
		}
		name = strings.TrimSuffix(filepath.Base(name), ".txtar")
		path := filepath.Join(dir, name+".xml")
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		documents = append(documents, path)

		request, _ := file(ar, "request.xml")
		asked, _ := file(ar, "request.http")
		answered, _ := file(ar, "response.http")
		r, err := encryptor.ReadRequest(headers(asked), request)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a, err := encryptor.ReadAnswer(r, headers(answered), body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, v := range a.Check() {
			t.Errorf("%s: %s", name, v)
		}
	}
	if len(documents) < 50 {
		t.Fatalf("%d answers with status 200", len(documents))
	}
	run(t, nil, "xmllint", append([]string{"--nonet", "--noout"}, documents...)...)
}

// headers reads the header lines of a part of an exchange.
func headers(b []byte) http.Header {
	h := http.Header{}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			h.Add(name, value)
		}
	}
	return h
}

// recipient is an encryptor whose private key lies in a file.
type recipient struct {
	*encryptor.Recipient
	keyFile string
}

func newRecipient(t *testing.T, id string) recipient {
	t.Helper()
	r, err := encryptor.NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.ID = id
	path := filepath.Join(t.TempDir(), id+".pem")
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(r.Key)}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return recipient{r, path}
}

// encrypted asks the whole handler for keys of a version of SPEKE, encrypted
// to the recipients, and returns the document.
func encrypted(t *testing.T, o encryptor.Options, to ...recipient) (*encryptor.Answer, string) {
	t.Helper()
	for _, r := range to {
		o.Recipients = append(o.Recipients, r.Recipient)
	}
	req, err := o.Build()
	if err != nil {
		t.Fatal(err)
	}
	r := ask(t, newTestServer(t, exampleTenant(), nil), "POST", "/speke/copyProtection", bytes.NewReader(req.Body),
		"X-Speke-Version", req.Header.Get("X-Speke-Version"), "Content-Type", "application/xml")
	body := text(t, r)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", r.StatusCode, body)
	}
	a, err := encryptor.ReadAnswer(req, r.Header, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range a.Check() {
		t.Error(v)
	}
	return a, body
}

var versions = []encryptor.Options{
	{Service: encryptor.MediaConvert, ContentID: "movie", Packaging: encryptor.DASH},
	{Service: encryptor.MediaPackageV1, ContentID: "channel", Version: encryptor.V20, Packaging: encryptor.CMAF, Scheme: "cbcs"},
	{Service: encryptor.MediaPackageV2, ContentID: "channel", Version: encryptor.V21, VideoPreset: "PRESET-VIDEO-3"},
}

var (
	deliveryPart = regexp.MustCompile(`(?s)<cpix:DeliveryData .*?</cpix:DeliveryData>`)
	keyPart      = regexp.MustCompile(`(?s)<cpix:ContentKey .*?</cpix:ContentKey>`)
	cipherValue  = regexp.MustCompile(`<enc:CipherValue>([^<]*)</enc:CipherValue>`)
	valueMAC     = regexp.MustCompile(`<pskc:ValueMAC>([^<]*)</pskc:ValueMAC>`)
)

// values decodes all that a pattern finds in a part of a document.
func values(t *testing.T, pattern *regexp.Regexp, part string, want int) [][]byte {
	t.Helper()
	var out [][]byte
	for _, m := range pattern.FindAllStringSubmatch(part, -1) {
		b, err := base64.StdEncoding.DecodeString(m[1])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	if len(out) != want {
		t.Fatalf("%d values, want %d in %.200s", len(out), want, part)
	}
	return out
}

// TestEncryptionWithOpenSSL opens encrypted content keys with OpenSSL alone:
// RSA-OAEP for document key and MAC key, HMAC-SHA512 for every MAC, AES-256-CBC
// for the content keys (SX-CKE-04 to -10, -16).
func TestEncryptionWithOpenSSL(t *testing.T) {
	for _, o := range versions {
		to := []recipient{newRecipient(t, "one"), newRecipient(t, "two")}
		a, doc := encrypted(t, o, to...)
		if strings.Contains(doc, "PlainValue") {
			t.Errorf("%s: a PlainValue", o.Version)
		}
		deliveries := deliveryPart.FindAllString(doc, -1)
		if len(deliveries) != 2 {
			t.Fatalf("%d DeliveryData", len(deliveries))
		}
		for i, r := range to {
			wrapped, macs := values(t, cipherValue, deliveries[i], 2), values(t, valueMAC, deliveries[i], 2)
			unwrap := func(b []byte) []byte {
				return run(t, b, "openssl", "pkeyutl", "-decrypt", "-inkey", r.keyFile,
					"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1", "-pkeyopt", "rsa_mgf1_md:sha1")
			}
			documentKey, macKey := unwrap(wrapped[0]), unwrap(wrapped[1])
			if len(documentKey) != 32 || len(macKey) != 64 {
				t.Fatalf("document key of %d bytes, MAC key of %d", len(documentKey), len(macKey))
			}
			mac := func(b []byte) []byte {
				return run(t, b, "openssl", "dgst", "-sha512", "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(macKey), "-binary")
			}
			for j := range wrapped {
				if !bytes.Equal(mac(wrapped[j]), macs[j]) {
					t.Errorf("%s: MAC %d of recipient %s", o.Version, j, r.ID)
				}
			}
			keys := keyPart.FindAllString(doc, -1)
			if len(keys) != len(a.Keys) || len(keys) == 0 {
				t.Fatalf("%d ContentKey, want %d", len(keys), len(a.Keys))
			}
			for j, part := range keys {
				c, m := values(t, cipherValue, part, 1)[0], values(t, valueMAC, part, 1)[0]
				if len(c) != 48 || !bytes.Equal(mac(c), m) {
					t.Errorf("%s: MAC of content key %d", o.Version, j)
				}
				key := run(t, c[16:], "openssl", "enc", "-d", "-aes-256-cbc", "-K", hex.EncodeToString(documentKey), "-iv", hex.EncodeToString(c[:16]))
				if contentkey.Value(key) != a.Keys[j].Value || !a.Keys[j].HasValue {
					t.Errorf("%s: content key %d is another for OpenSSL", o.Version, j)
				}
			}
		}
	}
}

// TestEncryptionWithXMLSec opens them with xmlsec1, which reads the XML
// Encryption elements itself. It knows them by the name EncryptedData only,
// for which CPIX has EncryptedValue.
func TestEncryptionWithXMLSec(t *testing.T) {
	for _, o := range versions {
		r := newRecipient(t, "one")
		a, doc := encrypted(t, o, r)
		doc = strings.NewReplacer("<pskc:EncryptedValue>", "<enc:EncryptedData>", "</pskc:EncryptedValue>", "</enc:EncryptedData>").Replace(doc)
		dir := t.TempDir()
		path := filepath.Join(dir, "document.xml")
		if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		at := func(part string) []string {
			return []string{"--node-xpath", "//*[local-name()='" + part + "']//*[local-name()='EncryptedData']", path}
		}
		documentKey := run(t, nil, "xmlsec1", append([]string{"--decrypt", "--privkey-pem", r.keyFile}, at("DocumentKey")...)...)
		keyFile := filepath.Join(dir, "document.key")
		if err := os.WriteFile(keyFile, documentKey, 0o600); err != nil {
			t.Fatal(err)
		}
		if len(documentKey) != 32 {
			t.Fatalf("document key of %d bytes", len(documentKey))
		}
		for i := range a.Keys {
			part := fmt.Sprintf("ContentKey'][%d]//*[local-name()='Data", i+1)
			key := run(t, nil, "xmlsec1", append([]string{"--decrypt", "--aeskey", keyFile}, at(part)...)...)
			if len(key) != 16 || contentkey.Value(key) != a.Keys[i].Value {
				t.Errorf("%s: content key %d is another for xmlsec1", o.Version, i)
			}
		}
	}
}
