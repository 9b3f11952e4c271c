package keyprovider_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/encryptor"
	"spekeasy/internal/keyprovider"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
	"spekeasy/speke"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clock is a time that a test moves.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// keys is a keystore that makes keys from key IDs, remembers what it was
// asked, and fails when it is told to.
type keys struct {
	asked []*keystore.Ask
	err   error
}

func (k *keys) Obtain(_ context.Context, ask *keystore.Ask) ([]keystore.Key, error) {
	asked := *ask
	asked.Wants = slices.Clone(ask.Wants)
	for i := range asked.Wants {
		w := &asked.Wants[i]
		w.Uses, w.Systems = slices.Clone(w.Uses), slices.Clone(w.Systems)
	}
	k.asked = append(k.asked, &asked)
	if k.err != nil {
		return nil, k.err
	}
	out := make([]keystore.Key, len(ask.Wants))
	for i, w := range ask.Wants {
		sum := sha256.Sum256(w.KID[:])
		out[i] = keystore.Key{KID: w.KID, Value: contentkey.Value(sum[:16]), IV: contentkey.IV(sum[16:]), Created: true}
	}
	return out, nil
}

func build(t *testing.T, s tenant.Settings) *tenant.Tenant {
	t.Helper()
	if s.ID == "" {
		s.ID = "example"
	}
	built, err := s.Build()
	if err != nil {
		t.Fatal(err)
	}
	return built
}

const (
	videoKID = "11f8a3d2-5b6c-4d7e-8f90-a1b2c3d4e5f6"
	audioKID = "22e9b4c3-6c7d-4e8f-9a01-b2c3d4e5f607"
)

// document is a request for two keys; each recipient is the certificates of
// one DeliveryData.
func document(recipients ...[]*encryptor.Recipient) string {
	var b strings.Builder
	b.WriteString(`<cpix:CPIX contentId="movie" version="2.3" xmlns:cpix="urn:dashif:org:cpix" xmlns:ds="http://www.w3.org/2000/09/xmldsig#">`)
	if recipients != nil {
		b.WriteString(`<cpix:DeliveryDataList>`)
		for i, certs := range recipients {
			fmt.Fprintf(&b, `<cpix:DeliveryData id="r%d"><cpix:DeliveryKey><ds:X509Data>`, i)
			for _, c := range certs {
				b.WriteString(`<ds:X509Certificate>` + base64.StdEncoding.EncodeToString(c.Certificate.Raw) + `</ds:X509Certificate>`)
			}
			b.WriteString(`</ds:X509Data></cpix:DeliveryKey></cpix:DeliveryData>`)
		}
		b.WriteString(`</cpix:DeliveryDataList>`)
	}
	b.WriteString(`<cpix:ContentKeyList>`)
	for _, kid := range []string{videoKID, audioKID} {
		b.WriteString(`<cpix:ContentKey kid="` + kid + `" commonEncryptionScheme="cenc"/>`)
	}
	b.WriteString(`</cpix:ContentKeyList><cpix:DRMSystemList><cpix:DRMSystem kid="` + videoKID + `" systemId="edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"><cpix:PSSH/></cpix:DRMSystem></cpix:DRMSystemList>` +
		`<cpix:ContentKeyUsageRuleList><cpix:ContentKeyUsageRule kid="` + videoKID + `" intendedTrackType="VIDEO"><cpix:VideoFilter/></cpix:ContentKeyUsageRule>` +
		`<cpix:ContentKeyUsageRule kid="` + audioKID + `" intendedTrackType="AUDIO"><cpix:AudioFilter/></cpix:ContentKeyUsageRule></cpix:ContentKeyUsageRuleList></cpix:CPIX>`)
	return b.String()
}

// provide plays one request through parsing and the key provider.
func provide(t *testing.T, p *keyprovider.Local, tn *tenant.Tenant, body string) (*cpix.Document, error) {
	t.Helper()
	req, err := speke.ParseRequest(http.Header{speke.HeaderVersion: {"2.0"}}, []byte(body), &tn.Policy)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := p.Provide(t.Context(), tn, req)
	if err != nil {
		return nil, err
	}
	doc, err := cpix.Parse(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return doc, nil
}

func recipients(t *testing.T, n int) []*encryptor.Recipient {
	t.Helper()
	out := make([]*encryptor.Recipient, n)
	for i := range out {
		var err error
		if out[i], err = encryptor.NewRecipient(epoch); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// opens reports whether a recipient can read the content keys of an answer.
func opens(d *cpix.Document, r *encryptor.Recipient) bool {
	o, err := d.Opener(r.Key, r.Certificate)
	if err != nil {
		return false
	}
	_, err = o.Open(&d.ContentKeys[0].Secret)
	return err == nil
}

// TestRecipientSetsStayApart holds that document keys are used again for
// exactly the same recipients only (SX-CKE-04): certificates that move from
// one DeliveryData to the next make other recipients.
func TestRecipientSetsStayApart(t *testing.T) {
	r := recipients(t, 3)
	a, b, c := r[0], r[1], r[2]
	p := keyprovider.New(&keys{}, rand.Reader, func() time.Time { return epoch }, keyprovider.Options{SealFor: time.Minute})
	tn := build(t, tenant.Settings{})

	first, err := provide(t, p, tn, document([]*encryptor.Recipient{a, b}, []*encryptor.Recipient{c}))
	if err != nil {
		t.Fatal(err)
	}
	if !opens(first, a) || !opens(first, c) {
		t.Error("a recipient cannot open the first document")
	}
	second, err := provide(t, p, tn, document([]*encryptor.Recipient{a}, []*encryptor.Recipient{b, c}))
	if err != nil {
		t.Fatal(err)
	}
	if !opens(second, a) || !opens(second, b) {
		t.Error("a recipient cannot open the second document")
	}
	if opens(second, c) {
		t.Error("c, who is nobody's first certificate in the second document, can open it")
	}
	_, err = provide(t, p, tn, document([]*encryptor.Recipient{a, b}, []*encryptor.Recipient{c}, nil))
	if e, ok := errors.AsType[*speke.Error](err); !ok || e.Text != "Invalid DeliveryData certificate" {
		t.Errorf("a DeliveryData without certificate beside known ones: %v", err)
	}
}

// TestDocumentKeyReuse holds for how long and for whom a document key serves
// (SX-CKE-04, design decision on content key encryption). The wrapped
// document key tells whether it is the same one; IVs are always fresh.
func TestDocumentKeyReuse(t *testing.T) {
	r := recipients(t, 1)
	body := document(r)
	wrapped := func(d *cpix.Document) string { return d.DeliveryData[0].DocumentKey.CipherValue }
	mine, other := build(t, tenant.Settings{}), build(t, tenant.Settings{ID: "other"})

	for _, c := range []struct {
		name   string
		reuse  time.Duration
		pause  time.Duration
		second *tenant.Tenant
		same   bool
	}{
		{"at once", time.Minute, 0, mine, true},
		{"just before the end", time.Minute, time.Minute - 1, mine, true},
		{"at the end", time.Minute, time.Minute, mine, false},
		{"another tenant", time.Minute, 0, other, false},
		{"switched off", 0, 0, mine, false},
	} {
		clk := &clock{epoch}
		p := keyprovider.New(&keys{}, rand.Reader, clk.Now, keyprovider.Options{SealFor: c.reuse})
		first, err := provide(t, p, mine, body)
		if err != nil {
			t.Fatal(err)
		}
		clk.now = clk.now.Add(c.pause)
		second, err := provide(t, p, c.second, body)
		if err != nil {
			t.Fatal(err)
		}
		if same := wrapped(first) == wrapped(second); same != c.same {
			t.Errorf("%s: same document key: %v, want %v", c.name, same, c.same)
		}
		if first.ContentKeys[0].Secret.CipherValue == second.ContentKeys[0].Secret.CipherValue {
			t.Errorf("%s: the same IV twice", c.name)
		}
		if !opens(first, r[0]) || !opens(second, r[0]) {
			t.Errorf("%s: an answer does not open", c.name)
		}
	}
}

// TestCertificatePolicyIsAppliedAgain holds that a certificate which expires
// while its document key could still serve is refused (S2-ERR-38, SX-CKE-12).
func TestCertificatePolicyIsAppliedAgain(t *testing.T) {
	r := recipients(t, 2)
	clk := &clock{r[0].Certificate.NotAfter}
	p := keyprovider.New(&keys{}, rand.Reader, clk.Now, keyprovider.Options{SealFor: time.Minute})
	strict := build(t, tenant.Settings{Certificates: tenant.CertificateSettings{RefuseExpired: true}})
	if _, err := provide(t, p, strict, document(r[:1])); err != nil {
		t.Fatal(err)
	}
	clk.now = clk.now.Add(time.Second)
	refused(t, p, strict, document(r[:1]), "Invalid DeliveryData certificate")

	sum := sha256.Sum256(r[0].Certificate.Raw)
	pinned := build(t, tenant.Settings{Certificates: tenant.CertificateSettings{Pins: []string{fmt.Sprintf("%X", sum)}}})
	if _, err := provide(t, p, pinned, document(r[:1])); err != nil {
		t.Error(err)
	}
	refused(t, p, pinned, document(r[1:]), "Invalid DeliveryData certificate")
	refused(t, p, pinned, document(r[:1], r[1:]), "Invalid DeliveryData certificate") // one bad recipient is enough
}

func refused(t *testing.T, p *keyprovider.Local, tn *tenant.Tenant, body, text string) {
	t.Helper()
	_, err := provide(t, p, tn, body)
	e, ok := errors.AsType[*speke.Error](err)
	if !ok || e.Status != http.StatusUnprocessableEntity || e.Text != text {
		t.Errorf("%v, want 422 %q", err, text)
	}
}

// TestNothingIsMadeForARefusal holds that the keystore is not asked for a
// request that is refused by certificate or KID rule.
func TestNothingIsMadeForARefusal(t *testing.T) {
	r := recipients(t, 1)
	k := &keys{}
	p := keyprovider.New(k, rand.Reader, func() time.Time { return epoch }, keyprovider.Options{})
	pins := build(t, tenant.Settings{Certificates: tenant.CertificateSettings{Pins: []string{strings.Repeat("00", 32)}}})
	refused(t, p, pins, document(r), "Invalid DeliveryData certificate")
	rule := build(t, tenant.Settings{KIDRule: "uuidv5"})
	same := strings.Replace(document(), `intendedTrackType="AUDIO"><cpix:AudioFilter/></cpix:ContentKeyUsageRule>`, `intendedTrackType="B"><cpix:KeyPeriodFilter periodId="p"/><cpix:AudioFilter/></cpix:ContentKeyUsageRule>`, 1)
	same = strings.Replace(same, `intendedTrackType="VIDEO">`, `intendedTrackType="B"><cpix:KeyPeriodFilter periodId="q"/>`, 1)
	if _, err := provide(t, p, rule, same); err != nil {
		t.Errorf("two periods: %v", err)
	}
	asked := len(k.asked)
	periods := `<cpix:ContentKeyPeriodList><cpix:ContentKeyPeriod id="p" index="7"/><cpix:ContentKeyPeriod id="q" index="7"/></cpix:ContentKeyPeriodList><cpix:ContentKeyUsageRuleList>`
	refused(t, p, rule, strings.Replace(same, `<cpix:ContentKeyUsageRuleList>`, periods, 1), "KID rule uuidv5 gives one key ID to two content keys of the request") // SX-KID-05
	if len(k.asked) != asked {
		t.Error("the keystore was asked for a refused request")
	}
}

// TestAsk holds what the keystore is told of a request: it keeps the bindings
// that a later reader looks for (SX-SEQ-11 to -14).
func TestAsk(t *testing.T) {
	k := &keys{}
	p := keyprovider.New(k, rand.Reader, func() time.Time { return epoch }, keyprovider.Options{})
	body := strings.Replace(document(), `commonEncryptionScheme="cenc"/>`, `commonEncryptionScheme="cenc" explicitIV="AAECAwQFBgcICQoLDA0ODw=="/>`, 1)
	body = strings.Replace(body, `<cpix:VideoFilter/>`, `<cpix:KeyPeriodFilter periodId="p"/><cpix:VideoFilter/>`, 1)
	body = strings.Replace(body, `<cpix:ContentKeyUsageRuleList>`, `<cpix:ContentKeyPeriodList><cpix:ContentKeyPeriod id="p" index="6" start="2026-01-01T00:00:00" end="2026-01-01T00:05:00"/></cpix:ContentKeyPeriodList><cpix:ContentKeyUsageRuleList>`, 1)
	if _, err := provide(t, p, build(t, tenant.Settings{KIDReuse: "refuse"}), body); err != nil {
		t.Fatal(err)
	}
	ask := k.asked[0]
	if ask.Tenant != "example" || ask.ContentID != "movie" || ask.Profile != "2.0" || ask.Scheme != contentkey.Cenc || !ask.Reuse.RefuseKID || len(ask.Wants) != 2 {
		t.Errorf("asked for %+v", ask)
	}
	video, audio := ask.Wants[0], ask.Wants[1]
	period := contentkey.Period{ID: "p", Index: "6", Start: "2026-01-01T00:00:00", End: "2026-01-01T00:05:00"}
	if video.KID.String() != videoKID || video.Requested != video.KID || !video.HasIV || video.IV[15] != 15 ||
		len(video.Uses) != 1 || video.Uses[0] != (keystore.Use{Track: "VIDEO", Period: period}) || len(video.Systems) != 1 || video.Systems[0] != "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed" {
		t.Errorf("video %+v", video)
	}
	if audio.HasIV || len(audio.Uses) != 1 || audio.Uses[0] != (keystore.Use{Track: "AUDIO"}) || len(audio.Systems) != 0 {
		t.Errorf("audio %+v", audio)
	}
}

// TestKeystoreErrors holds which errors of the keystore are refusals for the
// encryptor; all others stay what they are, for the server to map.
func TestKeystoreErrors(t *testing.T) {
	kid, err := contentkey.ParseKID(videoKID)
	if err != nil {
		t.Fatal(err)
	}
	tn := build(t, tenant.Settings{})
	for _, c := range []struct {
		err  error
		text string
	}{
		{&keystore.ReuseError{KID: kid}, "key ID " + videoKID + " is in use under another content ID"},
		{fmt.Errorf("x: %w", &keystore.ReuseError{KID: kid, Scheme: true}), "key ID " + videoKID + " is in use under another common encryption scheme"},
		{fmt.Errorf("content key %s: %w", kid, keystore.ErrDeleted), "content key " + videoKID + ": content key was deleted"},
	} {
		p := keyprovider.New(&keys{err: c.err}, rand.Reader, func() time.Time { return epoch }, keyprovider.Options{})
		refused(t, p, tn, document(), c.text)
	}
	for _, want := range []error{keystore.ErrUnavailable, keystore.ErrCorrupt, context.Canceled} {
		p := keyprovider.New(&keys{err: fmt.Errorf("x: %w", want)}, rand.Reader, func() time.Time { return epoch }, keyprovider.Options{})
		if _, err := provide(t, p, tn, document()); !errors.Is(err, want) {
			t.Errorf("%v became %v", want, err)
		}
	}
}
