package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/audit"
	"spekeasy/internal/lambdahttp"
	"spekeasy/internal/store/dynamodb"
)

// TestRecordsInTable keeps the records in the table that has the keys. They
// are there when the answer is.
func TestRecordsInTable(t *testing.T) {
	a := newAccount(t)
	config := strings.ReplaceAll(a.env["SPEKEASY_CONFIG"], "audit: {stdout: only}", "audit: {database: only}")
	a.env["SPEKEASY_CONFIG"] = config
	var stdout bytes.Buffer
	f := newFunction(a.lookup, &stdout, new(bytes.Buffer), time.Now)
	if err := f.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer f.end()
	h := lambdahttp.New(f, lambdahttp.Options{})
	for _, password := range []string{"swordfish-1", "swordfish-9"} {
		if out, err := h.Invoke(t.Context(), []byte(event(t, document(t), password))); err != nil {
			t.Fatalf("%s, %v", out, err)
		}
	}

	db, err := dynamodb.Open(t.Context(), regexp.MustCompile(`dynamodb://\S+`).FindString(config), dynamodb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var found []string
	err = audit.InStore{Store: db}.Read(t.Context(), &audit.Query{}, "", func(_ string, _ []byte, r *audit.Record) error {
		found = append(found, r.Event+" "+r.Result)
		return nil
	})
	if got := strings.Join(found, ", "); err != nil || got != "server_start , key_request delivered, key_request refused" {
		t.Errorf("%s, %v", got, err)
	}
	if r, err := audit.VerifyStore(t.Context(), db); err != nil || !r.Sound() {
		t.Errorf("%+v, %v", r, err)
	}
	if stdout.Len() > 0 {
		t.Errorf("standard output has %s", &stdout)
	}
}
