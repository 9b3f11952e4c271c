package server_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/audit"
	"spekeasy/internal/keystore"
	"spekeasy/internal/keystore/keystoretest"
)

// TestMemoryIsUsedAgain sends many different requests at once to one server,
// whose requests take over each other's memory, and each of them alone to a
// server whose memory is fresh. Answers, bindings and audit records must be
// the same: memory is cleared when it is given back, so that whoever keeps a
// part of it has something else in the end. What must come of one request by
// itself is held by the exchanges.
func TestMemoryIsUsedAgain(t *testing.T) {
	const senders, rounds = 6, 4
	requests := manyRequests()
	var want result
	answers := make([]string, len(requests))
	for i, body := range requests {
		got := serve(t, func(h http.Handler) { answers[i] = send(h, body) })
		want.bindings = append(want.bindings, got.bindings...)
		for range senders * rounds {
			want.records = append(want.records, got.records...)
		}
	}
	if n := len(slices.DeleteFunc(slices.Clone(answers), func(a string) bool { return strings.HasPrefix(a, "200 ") })); n != 3 {
		t.Fatalf("%d requests are refused, want 3: %.300q", n, answers)
	}
	got := serve(t, func(h http.Handler) {
		var all sync.WaitGroup
		for s := range senders {
			all.Go(func() {
				for n := range rounds * len(requests) {
					i := (s*len(requests)/senders + n) % len(requests)
					if answer := send(h, requests[i]); answer != answers[i] {
						t.Errorf("request %d is answered\n%s\nwant\n%s", i, answer, answers[i])
					}
				}
			})
		}
		all.Wait()
	})
	if got, want := got.sorted(), want.sorted(); !reflect.DeepEqual(got, want) {
		if len(got.bindings) != len(want.bindings) || len(got.records) != len(want.records) {
			t.Fatalf("%d bindings and %d records, want %d and %d", len(got.bindings), len(got.records), len(want.bindings), len(want.records))
		}
		for i := range got.bindings {
			if got.bindings[i] != want.bindings[i] {
				t.Errorf("binding\n%s\nwant\n%s", got.bindings[i], want.bindings[i])
			}
		}
		for i := range got.records {
			if got.records[i] != want.records[i] {
				t.Errorf("record\n%s\nwant\n%s", got.records[i], want.records[i])
			}
		}
	}
}

// result is what a server has stored, without times, as text.
type result struct{ bindings, records []string }

func (r result) sorted() result {
	slices.Sort(r.bindings)
	slices.Sort(r.records)
	return r
}

// serve has f use a server of its own.
func serve(t *testing.T, f func(http.Handler)) (r result) {
	t.Helper()
	dir := t.TempDir()
	keys, db := keystoretest.Open(t, keystore.Options{})
	f(newServer(t, exampleTenant(), fixedKeys{}, serverOptions{random: zeros{}, now: time.Now, keys: keys, recorder: openAudit(t, dir)}))
	if err := keys.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	bindings, _, err := db.PageBindings(t.Context(), "example", keystore.BindingFilter{}, "", 10000)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bindings {
		b.FirstSeen, b.LastSeen = time.Time{}, time.Time{}
		r.bindings = append(r.bindings, fmt.Sprintf("%+v", b))
	}
	for _, rec := range keyRequests(t, dir) {
		rec.Seq, rec.Time, rec.RequestID, rec.Created, rec.Hash = 0, time.Time{}, "", 0, audit.Hash{}
		r.records = append(r.records, fmt.Sprintf("%+v", rec))
	}
	return r
}

// send returns status and body of an answer.
func send(h http.Handler, body string) string {
	r := httptest.NewRequest(http.MethodPost, "/speke/copyProtection", strings.NewReader(body))
	r.SetBasicAuth("test", "test")
	if strings.Contains(body, `version="2.3"`) {
		r.Header.Set("X-Speke-Version", "2.0")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return fmt.Sprintf("%d %s", w.Code, w.Body)
}

// manyRequests are requests that have nothing in common but their kind: of all
// lengths, of both versions, with and without key periods, some of them
// refused early or late.
func manyRequests() (all []string) {
	systems := []string{widevineID, playReadyID, fairPlayID}
	for n := range byte(24) {
		keys, v2 := 1+int(n)%7, n%3 > 0
		kid := func(i int) contentkey.KID { return contentkey.KID{n + 1, 0xa7, byte(i), 15: n} }
		var b bytes.Buffer
		if v2 {
			fmt.Fprintf(&b, `<c:CPIX xmlns:c="urn:dashif:org:cpix" contentId="content-%d" version="2.3">`, n)
		} else {
			fmt.Fprintf(&b, `<c:CPIX xmlns:c="urn:dashif:org:cpix" id="content-%d">`, n)
		}
		b.WriteString("<c:ContentKeyList>")
		for i := range keys {
			iv := base64.StdEncoding.EncodeToString([]byte{n, byte(i), 15: 1})
			fmt.Fprintf(&b, `<c:ContentKey kid="%s" explicitIV="%s"`, kid(i), iv)
			if v2 {
				b.WriteString(` commonEncryptionScheme="cbcs"`)
			}
			b.WriteString("/>")
		}
		b.WriteString("</c:ContentKeyList><c:DRMSystemList>")
		for _, id := range systems[n%3:] {
			for i := range keys {
				fmt.Fprintf(&b, `<c:DRMSystem kid="%s" systemId="%s">`, kid(i), id)
				if id != fairPlayID {
					b.WriteString("<c:PSSH/>")
				}
				if v2 {
					b.WriteString(`<c:HLSSignalingData playlist="media"/>`)
				} else if id == fairPlayID {
					b.WriteString("<c:URIExtXKey/>")
				}
				b.WriteString("</c:DRMSystem>")
			}
		}
		b.WriteString("</c:DRMSystemList>")
		if n%2 == 0 {
			fmt.Fprintf(&b, `<c:ContentKeyPeriodList><c:ContentKeyPeriod id="p" index="%d"/></c:ContentKeyPeriodList>`, n)
		}
		b.WriteString("<c:ContentKeyUsageRuleList>")
		for i := range keys {
			fmt.Fprintf(&b, `<c:ContentKeyUsageRule kid="%s" intendedTrackType="T%d-%d">`, kid(i), n, i)
			if n%2 == 0 {
				b.WriteString(`<c:KeyPeriodFilter periodId="p"/>`)
			}
			b.WriteString(`<c:VideoFilter/></c:ContentKeyUsageRule>`)
		}
		b.WriteString("</c:ContentKeyUsageRuleList></c:CPIX>")
		switch n {
		case 10: // not XML
			b.Truncate(b.Len() - 4)
		case 11: // two keys of one ID
			text := strings.ReplaceAll(b.String(), kid(1).String(), kid(0).String())
			b.Reset()
			b.WriteString(text)
		case 13: // nothing else fits a contract with ALL
			text := strings.ReplaceAll(b.String(), "T13-0", "ALL")
			b.Reset()
			b.WriteString(text)
		}
		all = append(all, b.String())
	}
	return all
}
