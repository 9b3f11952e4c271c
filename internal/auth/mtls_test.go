package auth_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"spekeasy/internal/auth"
	"spekeasy/internal/tenant"
)

// openssl runs the program in a folder.
func openssl(t *testing.T, dir, args string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", strings.Fields(args)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", args, err, out)
	}
	return string(out)
}

func readCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMutualTLS asks with curl and certificates that OpenSSL made: one that is
// known by its fingerprint and that nobody issued, and those of a CA.
func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	const ec = " -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
	openssl(t, dir, "req -x509 -out self.pem -keyout self.key -days 30 -subj /CN=encoder"+ec)
	openssl(t, dir, "req -x509 -out alien.pem -keyout alien.key -days 30 -subj /O=Acme/CN=encoder-1"+ec)
	openssl(t, dir, "req -x509 -out ca.pem -keyout ca.key -days 30 -subj /CN=clients"+ec)
	sign := func(name, subject, extensions string) {
		if err := os.WriteFile(filepath.Join(dir, "ext"), []byte(extensions), 0o600); err != nil {
			t.Fatal(err)
		}
		openssl(t, dir, "req -new -out csr.pem -keyout "+name+".key -subj "+subject+ec)
		openssl(t, dir, "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out "+name+".pem")
	}
	sign("one", "/O=Acme/CN=encoder-1", "extendedKeyUsage=clientAuth")
	sign("two", "/O=Acme/CN=encoder-2", "extendedKeyUsage=clientAuth")
	sign("server", "/O=Acme/CN=encoder-3", "extendedKeyUsage=serverAuth")

	// The fingerprint as OpenSSL prints it.
	_, print, _ := strings.Cut(strings.TrimSpace(openssl(t, dir, "x509 -in self.pem -noout -fingerprint -sha256")), "=")
	_, subject, _ := strings.Cut(strings.TrimSpace(openssl(t, dir, "x509 -in one.pem -noout -subject -nameopt RFC2253")), "=")
	cas := x509.NewCertPool()
	cas.AddCert(readCertificate(t, filepath.Join(dir, "ca.pem")))
	c := newClock(readCertificate(t, filepath.Join(dir, "one.pem")).NotBefore.Add(1e9))
	a := newAuth(t, customer(
		tenant.Credential{Name: "self", MTLS: &tenant.MTLS{SHA256: tenant.Fingerprint(print)}},
		tenant.Credential{Name: "one", MTLS: &tenant.MTLS{Subject: subject}},
		tenant.Credential{Name: "three", MTLS: &tenant.MTLS{Subject: "CN=encoder-3,O=Acme"}},
		tenant.Credential{Name: "user", Basic: &tenant.Basic{User: "acme", Password: "secret"}},
	), auth.Options{Now: c.now, ClientCAs: cas})
	if !a.AsksForCertificates() {
		t.Error("the listener does not ask for certificates")
	}
	s := httptest.NewUnstartedServer(guarded(a))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	defer s.Close()
	with := func(name string) []string {
		return []string{"-k", "--cert", filepath.Join(dir, name+".pem"), "--key", filepath.Join(dir, name+".key"), s.URL + "/speke/v1.0/copyProtection"}
	}
	for range 2 {
		for name, want := range map[string]string{
			"self": "acme self 0 bytes\n", "one": "acme one 0 bytes\n",
			"two": "unauthorized\n", "alien": "unauthorized\n", "server": "unauthorized\n",
		} {
			if got := curl(t, with(name)...); got != want {
				t.Errorf("%s: got %q", name, got)
			}
		}
	}
	if got := curl(t, append([]string{"-u", "acme:secret"}, with("two")...)...); got != "acme user 0 bytes\n" {
		t.Errorf("an unknown certificate and a good password: %q", got)
	}
	if got := curl(t, "-k", s.URL); got != "unauthorized\n" {
		t.Errorf("no certificate: %q", got)
	}
	c.advance(31 * 24 * 60 * 60 * 1e9)
	for _, name := range []string{"self", "one"} {
		if got := curl(t, with(name)...); got != "unauthorized\n" {
			t.Errorf("%s, expired: got %q", name, got)
		}
	}
	if _, err := auth.New(customer(tenant.Credential{Name: "c", MTLS: &tenant.MTLS{Subject: "CN=x"}}), auth.Options{}); err == nil {
		t.Error("a subject is taken without a CA")
	}
}

// TestDeliveryCertificate: the certificate names the tenant; where it stands
// in the document and how it is wrapped does not matter, and a key that goes
// elsewhere too is refused.
func TestDeliveryCertificate(t *testing.T) {
	dir := t.TempDir()
	certs := make(map[string]*x509.Certificate)
	for _, name := range []string{"mine", "next", "old", "theirs", "alien"} {
		openssl(t, dir, "req -x509 -newkey rsa:2048 -sha512 -days 1461 -nodes -keyout k.pem -out c.pem -subj /CN="+name)
		certs[name] = readCertificate(t, filepath.Join(dir, "c.pem"))
	}
	credential := func(name string) tenant.Credential {
		d := sha256.Sum256(certs[name].Raw)
		return tenant.Credential{Name: name, DeliveryCertificate: &tenant.DeliveryCertificate{SHA256: tenant.Fingerprint(hex.EncodeToString(d[:]))}}
	}
	old := credential("old")
	old.Expires = at(noon)
	customers := []tenant.Settings{
		{ID: "acme", Credentials: []tenant.Credential{credential("mine"), credential("next"), old}},
		{ID: "other", Credentials: []tenant.Credential{credential("theirs")}},
	}
	a := newAuth(t, customers, auth.Options{Now: newClock(noon).now, Throttle: auth.Throttle{Burst: 1000}})
	element := func(name string) string {
		text := base64.StdEncoding.EncodeToString(certs[name].Raw)
		return "<ds:X509Certificate>\n" + text[:64] + "\n\t" + text[64:] + "</ds:X509Certificate>"
	}
	body := func(names ...string) []byte {
		s := "<CPIX>"
		for _, n := range names {
			s += element(n)
		}
		return []byte(s + "</CPIX>")
	}
	who, err := a.Authenticate(request("/"), body("mine"))
	if err != nil || who.Tenant != "acme" || who.Credential != "mine" || !who.Sealed {
		t.Fatalf("got %+v, %v", who, err)
	}
	if got, err := a.Authenticate(request("/"), []byte(strings.ReplaceAll(string(body("next")), "ds:X509Certificate>", `X509Certificate a="b">`))); err != nil || got.Credential != "next" {
		t.Errorf("without prefix, with an attribute: %+v, %v", got, err)
	}
	for name, body := range map[string][]byte{
		"none":         nil,
		"unknown":      body("alien"),
		"expired":      body("old"),
		"cut off":      body("mine")[:200],
		"empty":        []byte("<X509Certificate></X509Certificate><X509Certificate/>"),
		"not base64":   []byte("<X509Certificate>?</X509Certificate>"),
		"no end":       []byte("<X509Certificate"),
		"too many":     []byte(strings.Repeat("<X509Certificate>AAAA</X509Certificate>", 20) + string(body("mine"))),
		"as text only": []byte(hex.EncodeToString(certs["mine"].Raw)),
	} {
		t.Run(name, func(t *testing.T) {
			if who, err := a.Authenticate(request("/"), body); who != nil || !errors.Is(err, auth.ErrUnauthenticated) {
				t.Errorf("got %v, %v", who, err)
			}
		})
	}
	recipients := func(names ...string) (list []*x509.Certificate) {
		for _, n := range names {
			list = append(list, certs[n])
		}
		return list
	}
	for _, good := range [][]string{{"mine"}, {"next"}, {"mine", "next"}} {
		if err := a.CheckRecipients(who, recipients(good...)); err != nil {
			t.Errorf("to %v: %v", good, err)
		}
	}
	for _, bad := range [][]string{{}, {"alien"}, {"mine", "alien"}, {"mine", "theirs"}, {"mine", "old"}} {
		if err := a.CheckRecipients(who, recipients(bad...)); !errors.Is(err, auth.ErrForbidden) {
			t.Errorf("to %v: %v", bad, err)
		}
	}
	if err := a.CheckRecipients(&auth.Principal{Tenant: "acme"}, nil); err != nil {
		t.Errorf("a principal with a secret: %v", err)
	}
}

func FuzzDelivery(f *testing.F) {
	d := sha256.Sum256([]byte("certificate"))
	a := newAuth(f, customer(tenant.Credential{Name: "c", DeliveryCertificate: &tenant.DeliveryCertificate{SHA256: tenant.Fingerprint(hex.EncodeToString(d[:]))}}), auth.Options{})
	good := fmt.Sprintf("<ds:X509Certificate>%s</ds:X509Certificate>", base64.StdEncoding.EncodeToString([]byte("certificate")))
	f.Add([]byte(good))
	f.Add([]byte("<X509Certificate"))
	f.Add([]byte("X509Certificate>X509Certificate>="))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		if who, err := a.Authenticate(r, body); (err == nil) != (who != nil) {
			t.Errorf("%q: %v, %v", body, who, err)
		}
	})
}
