package cpix

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // RSA-OAEP-MGF1P is defined with SHA-1 (SX-CKE-05, E-13)
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"spekeasy/contentkey"
	"spekeasy/internal/xmltree"
)

// Algorithms of content key encryption (SX-CKE-05 to -08).
const (
	AlgorithmAES256CBC  = "http://www.w3.org/2001/04/xmlenc#aes256-cbc"
	AlgorithmRSAOAEP    = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"
	AlgorithmHMACSHA512 = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha512"
)

const (
	documentKeySize = 32 // AES-256
	macKeySize      = 64 // HMAC-SHA512
	minRSABits      = 2048
	maxRSABits      = 8192 // the work grows with the square of the size
)

// ErrCertificate reports a recipient certificate that cannot be used: not the
// base64 of DER, not RSA, or not of 2048 to 8192 bits (SX-CKE-11).
var ErrCertificate = errors.New("unusable certificate")

// ErrDecrypt reports encrypted values that do not open. One error stands for
// a wrong RSA key, a wrong MAC and wrong padding alike (CPIX-CRY-10).
var ErrDecrypt = errors.New("encrypted content key does not open")

// ParseCertificate reads the text of a ds:X509Certificate element and checks
// that content keys can be encrypted to it. The signature, the issuer and the
// period of validity are not judged here. The error wraps [ErrCertificate].
func ParseCertificate(text string) (*x509.Certificate, error) {
	der, err := decodeBase64(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	pub, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: %s key, want RSA", ErrCertificate, cert.PublicKeyAlgorithm)
	}
	if bits := pub.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return nil, fmt.Errorf("%w: RSA key of %d bits, want %d to %d", ErrCertificate, bits, minRSABits, maxRSABits)
	}
	return cert, nil
}

// A Sealer encrypts content keys to a fixed list of recipients: one document
// key and one MAC key, wrapped once per recipient (SX-CKE-04 to -08). It may
// serve several documents for the same recipients and is safe for concurrent
// use.
type Sealer struct {
	rand       io.Reader
	block      cipher.Block
	macKey     []byte
	recipients []wrappedKeys
	prints     []string
}

// wrappedKeys is what one recipient gets: base64 of the RSA ciphertexts and
// of their MACs.
type wrappedKeys struct {
	documentKey, documentMAC string
	macKey, macMAC           string
}

// NewSealer makes a document key and a MAC key and wraps them for each of the
// recipients, in order. random is the source of keys and IVs.
func NewSealer(random io.Reader, recipients []*x509.Certificate) (*Sealer, error) {
	var keys [documentKeySize + macKeySize]byte
	defer clear(keys[:])
	if _, err := io.ReadFull(random, keys[:]); err != nil {
		return nil, fmt.Errorf("document key: %w", err)
	}
	documentKey, macKey := keys[:documentKeySize], bytes.Clone(keys[documentKeySize:])
	block, err := aes.NewCipher(documentKey)
	if err != nil {
		return nil, fmt.Errorf("document key: %w", err)
	}
	s := &Sealer{rand: random, block: block, macKey: macKey, recipients: make([]wrappedKeys, len(recipients))}
	for i, cert := range recipients {
		pub, ok := cert.PublicKey.(*rsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("recipient %d: %w", i, ErrCertificate)
		}
		fingerprint := sha256.Sum256(cert.Raw)
		s.prints = append(s.prints, hex.EncodeToString(fingerprint[:]))
		w := &s.recipients[i]
		if w.documentKey, w.documentMAC, err = s.wrap(pub, documentKey); err != nil {
			return nil, fmt.Errorf("recipient %d: document key: %w", i, err)
		}
		if w.macKey, w.macMAC, err = s.wrap(pub, macKey); err != nil {
			return nil, fmt.Errorf("recipient %d: MAC key: %w", i, err)
		}
	}
	return s, nil
}

// Fingerprints returns the SHA-256 of the recipients' certificates (DER) in
// lower-case hexadecimal, in order. The slice is shared.
func (s *Sealer) Fingerprints() []string { return s.prints }

func (s *Sealer) wrap(pub *rsa.PublicKey, key []byte) (ciphertext, mac string, err error) {
	c, err := rsa.EncryptOAEP(sha1.New(), s.rand, pub, key, nil) //nolint:gosec // see the import
	if err != nil {
		return "", "", err
	}
	return encodeBase64(c), encodeBase64(s.mac(c)), nil
}

func (s *Sealer) mac(b []byte) []byte {
	h := hmac.New(sha512.New, s.macKey)
	h.Write(b)
	return h.Sum(nil)
}

// seal encrypts a content key: IV and ciphertext as one, and the MAC over it
// (SX-CKE-07, -08).
func (s *Sealer) seal(v *contentkey.Value) (cipherValue, mac []byte, err error) {
	const padded = len(v) + aes.BlockSize // PKCS#7 adds a whole block
	out := make([]byte, aes.BlockSize+padded)
	if _, err := io.ReadFull(s.rand, out[:aes.BlockSize]); err != nil {
		return nil, nil, fmt.Errorf("content key IV: %w", err)
	}
	text := out[aes.BlockSize:]
	copy(text, v[:])
	for i := len(v); i < padded; i++ {
		text[i] = aes.BlockSize
	}
	cipher.NewCBCEncrypter(s.block, out[:aes.BlockSize]).CryptBlocks(text, text)
	return out, s.mac(out), nil
}

func encodeBase64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// SetSealed gives content key i its value encrypted to the recipients of s,
// and HDCPData as in [Document.SetValue]. The document must get the keys of s
// once, by [Document.SetDelivery].
func (d *Document) SetSealed(i int, v *contentkey.Value, s *Sealer, hdcp *HDCP) error {
	cipherValue, mac, err := s.seal(v)
	if err != nil {
		return err
	}
	d.setSealed(i, cipherValue, mac, hdcp)
	return nil
}

func (d *Document) setSealed(i int, cipherValue, mac []byte, hdcp *HDCP) {
	k := &d.ContentKeys[i]
	c, p, x := own(k.el), d.prefix(k.el, &d.pskc), d.prefix(k.el, &d.enc)
	d.setData(k, hdcp, xmltree.Piece{
		Before: "<" + c + "Data><" + p + "Secret><" + p + "EncryptedValue>" + encryptedValue(x, AlgorithmAES256CBC),
		Body:   cipherValue,
		After: endEncryptedValue(x) + "</" + p + "EncryptedValue><" + p + "ValueMAC>" + encodeBase64(mac) + "</" + p + "ValueMAC></" +
			p + "Secret></" + c + "Data>",
	})
}

func encryptedValue(x, algorithm string) string {
	return "<" + x + `EncryptionMethod Algorithm="` + algorithm + `"/><` + x + "CipherData><" + x + "CipherValue>"
}

func endEncryptedValue(x string) string {
	return "</" + x + "CipherValue></" + x + "CipherData>"
}

// SetDelivery adds DocumentKey and MACMethod to each DeliveryData, in the
// shape that AWS documents (SX-CKE-09). The recipients of s are those of the
// document, in order.
func (d *Document) SetDelivery(s *Sealer) error {
	if len(s.recipients) != len(d.DeliveryData) {
		return fmt.Errorf("%d recipients for %d DeliveryData", len(s.recipients), len(d.DeliveryData))
	}
	for i := range d.DeliveryData {
		e := d.DeliveryData[i].key
		if e == nil {
			return fmt.Errorf("DeliveryData %d has no DeliveryKey", i)
		}
		d.setDelivery(e, &s.recipients[i])
	}
	return nil
}

// setDelivery puts the keys of a recipient behind its DeliveryKey.
func (d *Document) setDelivery(e *xmltree.Element, w *wrappedKeys) {
	at := e.Parent() // what DeliveryKey declares holds inside it only
	c, p, x := own(at), d.prefix(at, &d.pskc), d.prefix(at, &d.enc)
	value := func(ciphertext, mac string) string {
		text := "<" + p + "EncryptedValue>" + encryptedValue(x, AlgorithmRSAOAEP) + ciphertext + endEncryptedValue(x) + "</" + p + "EncryptedValue>"
		if mac != "" { // some writers leave it out, and others cannot add it
			text += "<" + p + "ValueMAC>" + mac + "</" + p + "ValueMAC>"
		}
		return text
	}
	d.edits.InsertAfter(e, xmltree.Piece{Before: "<" + c + `DocumentKey Algorithm="` + AlgorithmAES256CBC + `"><` + c + "Data><" + p + "Secret>" +
		value(w.documentKey, w.documentMAC) +
		"</" + p + "Secret></" + c + "Data></" + c + "DocumentKey><" + c + `MACMethod Algorithm="` + AlgorithmHMACSHA512 + `"><` + c + "Key>" +
		value(w.macKey, w.macMAC) +
		"</" + c + "Key></" + c + "MACMethod>"})
}

// CopyDelivery adds to each DeliveryData the DocumentKey and MACMethod that
// the document from has for the same certificate, whatever shape they have
// there.
func (d *Document) CopyDelivery(from *Document) error {
	for i := range d.DeliveryData {
		r := from.deliveryFor(&d.DeliveryData[i])
		e := d.DeliveryData[i].key
		switch {
		case e == nil:
			return fmt.Errorf("DeliveryData %d has no DeliveryKey", i)
		case r == nil || r.DocumentKey == nil || r.MACKey == nil || r.DocumentKey.CipherValue == "" || r.MACKey.CipherValue == "":
			return fmt.Errorf("DeliveryData %d: no encrypted DocumentKey and MACMethod for its certificate", i)
		}
		for _, s := range [...]*Secret{r.DocumentKey, r.MACKey} {
			if err := s.check(AlgorithmRSAOAEP); err != nil {
				return fmt.Errorf("DeliveryData %d: %w", i, err)
			}
		}
		d.setDelivery(e, &wrappedKeys{r.DocumentKey.CipherValue, r.DocumentKey.ValueMAC, r.MACKey.CipherValue, r.MACKey.ValueMAC})
	}
	return nil
}

// deliveryFor finds the recipient with the certificate of another document's.
func (d *Document) deliveryFor(other *DeliveryData) *DeliveryData {
	if len(other.Certificates) == 0 {
		return nil
	}
	want, err := decodeBase64(other.Certificates[0])
	if err != nil {
		return nil
	}
	for i := range d.DeliveryData {
		for _, text := range d.DeliveryData[i].Certificates {
			if got, err := decodeBase64(text); err == nil && bytes.Equal(got, want) {
				return &d.DeliveryData[i]
			}
		}
	}
	return nil
}

// CopySecret gives content key i a value that was encrypted elsewhere, and
// HDCPData as in [Document.SetValue].
func (d *Document) CopySecret(i int, s *Secret, hdcp *HDCP) error {
	if err := s.check(AlgorithmAES256CBC); err != nil {
		return err
	}
	cipherValue, err := decodeBase64(s.CipherValue)
	if err != nil {
		return err
	}
	mac, err := decodeBase64(s.ValueMAC)
	if err != nil {
		return err
	}
	d.setSealed(i, cipherValue, mac, hdcp)
	return nil
}

// check holds that a secret is encrypted with the algorithm and that its
// texts can be written again.
func (s *Secret) check(algorithm string) error {
	if s.CipherValue == "" || s.PlainValue != "" || s.Algorithm != algorithm && s.Algorithm != "" {
		return errors.New("not one value that is encrypted as SPEKE wants it")
	}
	for _, text := range [...]string{s.CipherValue, s.ValueMAC} {
		if _, err := decodeBase64(text); err != nil {
			return err
		}
	}
	return nil
}

// An Opener decrypts the content keys of one document for one recipient.
type Opener struct {
	block  cipher.Block
	macKey []byte
}

// Opener finds the recipient by its certificate, or by its public key when no
// DeliveryData names the certificate, and unwraps the document key and MAC
// key (CPIX-CRY-06, -10). The error is [ErrDecrypt] when they do not open,
// whatever the reason.
func (d *Document) Opener(key *rsa.PrivateKey, cert *x509.Certificate) (*Opener, error) {
	mine := d.recipient(key, cert)
	if mine == nil {
		return nil, errors.New("no DeliveryData for this certificate")
	}
	if mine.DocumentKey == nil || mine.MACKey == nil {
		return nil, errors.New("DeliveryData without DocumentKey or MACMethod")
	}
	if a := mine.MACAlgo; a != AlgorithmHMACSHA512 {
		return nil, fmt.Errorf("MACMethod algorithm %q is not supported", a)
	}
	macKey, err := unwrap(key, mine.MACKey, macKeySize)
	if err != nil {
		return nil, err
	}
	documentKey, err := unwrap(key, mine.DocumentKey, documentKeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(documentKey)
	clear(documentKey)
	if err != nil {
		return nil, ErrDecrypt
	}
	o := &Opener{block: block, macKey: macKey}
	for _, s := range []*Secret{mine.DocumentKey, mine.MACKey} {
		// Some writers put a MAC here as well; it counts if it can be one
		// (CPIX-CRY-13).
		if mac, err := decodeBase64(s.ValueMAC); err == nil && len(mac) == sha512.Size {
			c, err := decodeBase64(s.CipherValue)
			if err != nil || !hmac.Equal(mac, o.mac(c)) {
				return nil, ErrDecrypt
			}
		}
	}
	return o, nil
}

func (o *Opener) mac(b []byte) []byte {
	h := hmac.New(sha512.New, o.macKey)
	h.Write(b)
	return h.Sum(nil)
}

func (d *Document) recipient(key *rsa.PrivateKey, cert *x509.Certificate) *DeliveryData {
	var byKey *DeliveryData
	for i := range d.DeliveryData {
		r := &d.DeliveryData[i]
		for _, text := range r.Certificates {
			c, err := ParseCertificate(text)
			if err != nil {
				continue
			}
			if cert != nil && bytes.Equal(c.Raw, cert.Raw) {
				return r
			}
			if byKey == nil && key.PublicKey.Equal(c.PublicKey) {
				byKey = r
			}
		}
	}
	return byKey
}

func unwrap(key *rsa.PrivateKey, s *Secret, size int) ([]byte, error) {
	if s.Algorithm != AlgorithmRSAOAEP && s.Algorithm != "" {
		return nil, fmt.Errorf("key encryption algorithm %q is not supported", s.Algorithm)
	}
	c, err := decodeBase64(s.CipherValue)
	if err != nil {
		return nil, ErrDecrypt
	}
	b, err := rsa.DecryptOAEP(sha1.New(), nil, key, c, nil) //nolint:gosec // see the import
	if err != nil || len(b) != size {
		return nil, ErrDecrypt
	}
	return b, nil
}

// Open decrypts one content key. The MAC, which must be there and be 64
// bytes long, is verified before anything is decrypted (CPIX-CRY-04); a plain
// value in a document for recipients is refused (CPIX-INT-11).
func (o *Opener) Open(s *Secret) (contentkey.Value, error) {
	var v contentkey.Value
	if s.PlainValue != "" {
		return v, errors.New("plain content key in a document with DeliveryData")
	}
	if s.Algorithm != AlgorithmAES256CBC && s.Algorithm != "" {
		return v, fmt.Errorf("content key encryption algorithm %q is not supported", s.Algorithm)
	}
	c, err := decodeBase64(s.CipherValue)
	mac, macErr := decodeBase64(s.ValueMAC)
	if err != nil || macErr != nil || !hmac.Equal(mac, o.mac(c)) {
		return v, ErrDecrypt
	}
	if len(c) != aes.BlockSize+len(v)+aes.BlockSize {
		return v, ErrDecrypt
	}
	text := c[aes.BlockSize:]
	cipher.NewCBCDecrypter(o.block, c[:aes.BlockSize]).CryptBlocks(text, text)
	for _, pad := range text[len(v):] {
		if pad != aes.BlockSize {
			return v, ErrDecrypt
		}
	}
	copy(v[:], text)
	clear(text)
	return v, nil
}

// Plain returns the value of a content key that is not encrypted.
func (s *Secret) Plain() (contentkey.Value, error) {
	var v contentkey.Value
	if s.CipherValue != "" || s.PlainValue == "" {
		return v, errors.New("content key has no plain value")
	}
	b, err := decodeBase64(s.PlainValue)
	if err != nil || len(b) != len(v) {
		return v, errors.New("PlainValue is not the base64 of 16 bytes")
	}
	copy(v[:], b)
	clear(b)
	return v, nil
}
