package speke_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"spekeasy/encryptor"
	"spekeasy/speke"
)

// FuzzParseRequest holds that no header and body make the package panic, that
// every refusal is one of SPEKE with status 422, and that whatever is accepted
// can be answered with a document that our own encryptor finds nothing wrong
// with. In the memory of another request all of it is the same.
func FuzzParseRequest(f *testing.F) {
	files, err := filepath.Glob("../testdata/exchange/*.txtar")
	if err != nil || len(files) < 100 {
		f.Fatalf("%d exchanges, %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		version, body := "", ""
		for _, part := range txtar.Parse(b).Files {
			switch part.Name {
			case "request.http":
				if _, after, ok := strings.Cut(string(part.Data), "Version: "); ok {
					version, _, _ = strings.Cut(after, "\n")
				}
			case "request.xml":
				body = string(part.Data)
			}
		}
		f.Add(version, body)
	}
	f.Add("2.0", whole)
	p := policy(f)
	f.Fuzz(func(t *testing.T, version, body string) {
		r, err := speke.ParseRequest(header(version), []byte(body), p)
		var used speke.Request
		if err := used.Parse(header("2.0"), []byte(whole), p); err != nil {
			t.Fatal(err)
		}
		if again := used.Parse(header(version), []byte(body), p); fmt.Sprint(again) != fmt.Sprint(err) {
			t.Fatalf("in used memory %v, else %v", again, err)
		}
		if err != nil {
			if e, ok := errors.AsType[*speke.Error](err); !ok || e.Status != http.StatusUnprocessableEntity || e.Text == "" || strings.ContainsAny(e.Text, "\r\n") {
				t.Fatalf("%#v is no refusal", err)
			}
			return
		}
		if r.Encrypted() || len(body) > 20_000 {
			return
		}
		text, doc, err := answer(r, grants(r), nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if again, _, err := answer(&used, grants(&used), nil); again != text || err != nil {
			t.Fatalf("in used memory %v\n%s\nelse\n%s", err, again, text)
		}
		if len(doc.ContentKeys) != len(r.Keys) || len(doc.DRMSystems) != len(r.Systems) {
			t.Fatalf("the answer has other entries\n%s", text)
		}
		h := http.Header{"Content-Type": {speke.ContentType}}
		speke.AnswerHeader(h, header(version), "fuzz")
		req, err := encryptor.ReadRequest(header(version), []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		a, err := encryptor.ReadAnswer(req, h, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range a.Check() {
			if !v.Advice {
				t.Errorf("%s\n%.2000s", v, body)
			}
		}
	})
}
