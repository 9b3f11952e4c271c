package backup_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"spekeasy/contentkey"
	"spekeasy/internal/backup"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/envkey"
	"spekeasy/internal/store/sqlite"
	"spekeasy/internal/tenant"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC)

var header = backup.Header{Created: noon, Program: "test"}

// ring returns a key manager with a KEK made of the given byte.
func ring(t testing.TB, b byte) keystore.KeyManager {
	t.Helper()
	r, err := envkey.Open(&url.URL{Scheme: "env", Opaque: "KEK"}, func(string) (string, bool) {
		return fmt.Sprintf("kek-%d:%s", b, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32))), true
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func openDB(t testing.TB) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "keys.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func openKeystore(t testing.TB, db keystore.Store) (*keystore.Keystore, *keystore.Custody) {
	t.Helper()
	k, err := keystore.Open(t.Context(), db, ring(t, 1), keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close(context.Background()) })
	c, err := k.Custody()
	if err != nil {
		t.Fatal(err)
	}
	return k, c
}

func kid(n int) contentkey.KID { return contentkey.KID{byte(n), byte(n >> 8), 15: 0xab} }

func ask(tenant string, from, n int) *keystore.Ask {
	a := &keystore.Ask{Tenant: tenant, ContentID: fmt.Sprintf("movie <%d> & \"ü\"", from), Profile: "2.0", Scheme: contentkey.Cbcs}
	for i := range n {
		a.Wants = append(a.Wants, keystore.Want{
			Requested: kid(from + i), KID: kid(from + i), Systems: []string{"edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"},
			Uses: []keystore.Use{{Track: "HD", Period: contentkey.Period{Index: "7"}}, {Track: "SD"}},
		})
	}
	return a
}

// filled is a database with everything that a row can be.
func filled(t testing.TB, keys int) *sqlite.DB {
	t.Helper()
	db := openDB(t)
	k, c := openKeystore(t, db)
	for i := 0; i < keys; i += 100 {
		for _, tenant := range []string{"acme", "other"} {
			if _, err := k.Obtain(t.Context(), ask(tenant, i, min(100, keys-i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	im, err := c.NewImport("imports", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := im.Add(t.Context(), []keystore.ImportedKey{
		{KID: kid(1), Value: contentkey.Value{1}, ContentID: "old"}, {KID: kid(2), Value: contentkey.Value{2}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Delete(t.Context(), "acme", []contentkey.KID{kid(1), kid(2)}); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Purge(t.Context(), keystore.PurgeOptions{Grace: -time.Hour}); r.Purged != 2 || err != nil {
		t.Fatal(r, err)
	}
	if _, err := c.Delete(t.Context(), "acme", []contentkey.KID{kid(3)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Rewrap(t.Context(), keystore.RewrapOptions{NewDataKeys: true}); err != nil {
		t.Fatal(err)
	}
	return db
}

// rows returns everything that a store holds.
func rows(t testing.TB, s backup.Source) (all []any) {
	t.Helper()
	for tenant, err := range keystore.Tenants(t.Context(), s) {
		if err != nil {
			t.Fatal(err)
		}
		dataKeys, err := s.DataKeys(t.Context(), tenant)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, dataKeys)
		for page, err := range keystore.RecordPages(t.Context(), s, tenant) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, page)
		}
		for page, err := range keystore.BindingPages(t.Context(), s, tenant, keystore.BindingFilter{}) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, page)
		}
	}
	for _, kind := range []tenant.Kind{tenant.KindTenant, tenant.KindCredential, tenant.KindAdmin} {
		page, err := s.(tenant.Store).PageDocuments(t.Context(), kind, "", "", 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > 0 {
			all = append(all, page)
		}
	}
	return all
}

// addDocuments adds a document of each kind to a store. Two of them have
// secrets; one is a tombstone; answers are not worth a backup.
func addDocuments(t testing.TB, s tenant.Store, k *keystore.Keystore) {
	t.Helper()
	vault := tenant.NewVault(k)
	var all [5]tenant.Document
	for i := range all {
		all[i].Version, all[i].Changed = uint64(i+1), noon
	}
	if err := vault.Settings(t.Context(), &all[0], &tenant.Settings{ID: "acme", KeySource: tenant.KeySource{Kind: "hkdf", Seed: "seed of acme"}}); err != nil {
		t.Fatal(err)
	}
	cred := &tenant.StoredCredential{Credential: tenant.Credential{Name: "c", Digest: &tenant.Digest{User: "u", Password: "password of acme"}}, Created: noon}
	all[1].Kind, all[1].ID = tenant.KindCredential, tenant.CredentialID("acme", "c")
	if err := vault.Credential(t.Context(), &all[1], "acme", cred); err != nil {
		t.Fatal(err)
	}
	all[2].Kind, all[2].ID, all[2].Body = tenant.KindAdmin, "root", []byte("{}")
	all[3].Kind, all[3].ID, all[3].Body, all[3].Deleted = tenant.KindTenant, "gone", []byte{}, true
	all[4].Kind, all[4].ID = tenant.KindAnswer, "0a"
	if err := vault.Seal(t.Context(), &all[4], keystore.CustodyTenant, []byte("an answer")); err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if err := s.CreateDocument(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
}

// documentSecrets are the secrets that addDocuments has put into a store.
func documentSecrets(t testing.TB, s tenant.Store, k *keystore.Keystore) string {
	t.Helper()
	vault := tenant.NewVault(k)
	d, err := s.Document(t.Context(), tenant.KindTenant, "acme")
	if err != nil {
		t.Fatal(err)
	}
	settings, err := vault.OpenSettings(t.Context(), &d)
	if err != nil {
		t.Fatal(err)
	}
	if d, err = s.Document(t.Context(), tenant.KindCredential, "acme/c"); err != nil {
		t.Fatal(err)
	}
	cred, err := vault.OpenCredential(t.Context(), &d)
	if err != nil {
		t.Fatal(err)
	}
	return settings.KeySource.Seed + ", " + string(*cred.Plain())
}

func write(t testing.TB, s backup.Source, to ...age.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := backup.Write(t.Context(), s, header, &out, to, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRoundTrip(t *testing.T) {
	db, id := filled(t, 700), identity(t)
	k, _ := openKeystore(t, db)
	addDocuments(t, db, k)
	var out bytes.Buffer
	told := 0
	counts, err := backup.Write(t.Context(), db, header, &out, []age.Recipient{id.Recipient()}, func(c backup.Counts) {
		if c.Keys < told {
			t.Error("progress goes backwards")
		}
		told = c.Keys
	})
	want := backup.Counts{DataKeys: 1 + 3*2, Keys: 2*700 + 2, Bindings: 2*2*700 + 1, Documents: 4}
	if counts != want || err != nil || told != want.Keys {
		t.Fatalf("%+v, %v, progress to %d; want %+v", counts, err, told, want)
	}
	report, err := backup.Verify(t.Context(), bytes.NewReader(out.Bytes()), []age.Identity{id}, ring(t, 1), nil)
	if err != nil || report.Counts != want || report.Tenants != 3 || !reflect.DeepEqual(report.KEKs, []string{"kek-1"}) ||
		!report.Created.Equal(noon) || report.Program != "test" || report.Version != 2 {
		t.Errorf("Verify: %+v, %v", report, err)
	}
	fresh := openDB(t)
	if report, err = backup.Restore(t.Context(), bytes.NewReader(out.Bytes()), []age.Identity{id}, ring(t, 1), fresh, nil); err != nil || report.Counts != want {
		t.Fatalf("Restore: %+v, %v", report, err)
	}
	if !reflect.DeepEqual(rows(t, fresh), rows(t, db)) {
		t.Error("the restored rows differ")
	}
	before, _ := openKeystore(t, db)
	after, _ := openKeystore(t, fresh)
	for _, tenant := range []string{"acme", "other"} {
		a, err := before.Obtain(t.Context(), ask(tenant, 100, 100))
		if err != nil {
			t.Fatal(err)
		}
		b, err := after.Obtain(t.Context(), ask(tenant, 100, 100))
		if err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("tenant %s has other keys after a restore: %v", tenant, err)
		}
	}
	for n := 1; n <= 3; n++ {
		if _, err := after.Obtain(t.Context(), ask("acme", n, 1)); !errors.Is(err, keystore.ErrDeleted) {
			t.Errorf("a deleted key after a restore: %v", err)
		}
	}
}

func TestPassphraseAndSeveralRecipients(t *testing.T) {
	db, a, b := filled(t, 5), identity(t), identity(t)
	file := write(t, db, a.Recipient(), b.Recipient())
	for _, id := range []age.Identity{a, b} {
		if _, err := backup.Verify(t.Context(), bytes.NewReader(file), []age.Identity{identity(t), id}, ring(t, 1), nil); err != nil {
			t.Error(err)
		}
	}
	if _, err := backup.Verify(t.Context(), bytes.NewReader(file), []age.Identity{identity(t)}, ring(t, 1), nil); err == nil || !strings.Contains(err.Error(), "not encrypted to this identity") {
		t.Errorf("another identity: %v", err)
	}
	pass, err := age.NewScryptRecipient("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	pass.SetWorkFactor(10)
	file = write(t, db, pass)
	for text, good := range map[string]bool{"correct horse": true, "incorrect horse": false} {
		id, err := age.NewScryptIdentity(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := backup.Verify(t.Context(), bytes.NewReader(file), []age.Identity{id}, ring(t, 1), nil); (err == nil) != good {
			t.Errorf("passphrase %q: %v", text, err)
		}
	}
}

func TestWrongKEK(t *testing.T) {
	db, id := filled(t, 5), identity(t)
	file := write(t, db, id.Recipient())
	if _, err := backup.Verify(t.Context(), bytes.NewReader(file), []age.Identity{id}, ring(t, 2), nil); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("Verify: %v", err)
	}
	fresh := openDB(t)
	if _, err := backup.Restore(t.Context(), bytes.NewReader(file), []age.Identity{id}, ring(t, 2), fresh, nil); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("Restore: %v", err)
	}
	if got := rows(t, fresh); len(got) != 0 {
		t.Errorf("a refused backup left %d pages of rows", len(got))
	}
}

// TestDamagedFiles cuts a backup everywhere and changes it everywhere.
func TestDamagedFiles(t *testing.T) {
	db, id := filled(t, 40), identity(t)
	file := write(t, db, id.Recipient())
	fresh := openDB(t)
	refused := func(what string, file []byte) {
		t.Helper()
		_, err := backup.Restore(t.Context(), bytes.NewReader(file), []age.Identity{id}, ring(t, 1), fresh, nil)
		if err == nil {
			t.Fatalf("%s: it was restored", what)
		}
		if !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrIncomplete) && !strings.Contains(err.Error(), "not encrypted to this identity") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := 0; n < len(file); n += 1 + len(file)/150 {
		refused(fmt.Sprintf("cut at byte %d of %d", n, len(file)), file[:n])
		bad := bytes.Clone(file)
		bad[n] ^= 1
		refused(fmt.Sprintf("changed at byte %d of %d", n, len(file)), bad)
	}
	refused("lengthened", append(bytes.Clone(file), 0))
	if got := rows(t, fresh); len(got) != 0 {
		t.Errorf("refused backups left %d pages of rows", len(got))
	}
}

// plaintext returns the lines of a backup.
func plaintext(t *testing.T, file []byte, id age.Identity) []string {
	t.Helper()
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n")
	return lines[:len(lines)-1] // after the last line end there is nothing
}

// forge encrypts lines as a backup.
func forge(t *testing.T, to age.Recipient, lines ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(w)
	for _, l := range lines {
		if _, err := io.WriteString(z, l); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestEditedFiles changes what is in a backup and encrypts it again, as
// whoever knows the recipient can. What they cannot make is a sealed row.
func TestEditedFiles(t *testing.T) {
	db, id := filled(t, 5), identity(t)
	lines := plaintext(t, write(t, db, id.Recipient()), id)
	n := len(lines)
	swap := func(old, now string) []string {
		l := append([]string{}, lines...)
		for i := range l {
			if strings.Contains(l[i], old) {
				l[i] = strings.Replace(l[i], old, now, 1)
				return l
			}
		}
		t.Fatalf("no line has %s", old)
		return nil
	}
	// signed puts a right last line behind the others.
	signed := func(body []string, dataKeys, bindings, keys int) []string {
		body = append([]string{}, body[:len(body):len(body)]...)
		sum := sha256.Sum256([]byte(strings.Join(body, "")))
		return append(body, fmt.Sprintf(`{"end":{"data_keys":%d,"bindings":%d,"keys":%d,"sha256":%q}}`+"\n", dataKeys, bindings, keys, hex.EncodeToString(sum[:])))
	}
	otherKID := swap(kid(0).String(), kid(200).String()) // of a binding
	var moved []string
	for _, l := range lines[:n-1] {
		if strings.HasPrefix(l, `{"key":{"tenant":"other","kid":"`+kid(2).String()) {
			l = strings.Replace(l, kid(2).String(), kid(77).String(), 1)
		}
		moved = append(moved, l)
	}
	for name, c := range map[string]struct {
		lines []string
		want  error
	}{
		"nothing":            {nil, backup.ErrIncomplete},
		"only a header":      {lines[:1], backup.ErrIncomplete},
		"no end":             {lines[:n-1], backup.ErrIncomplete},
		"half a line":        {append(append([]string{}, lines[:5]...), lines[5][:20]), backup.ErrIncomplete},
		"no header":          {lines[1:], backup.ErrDamaged},
		"two headers":        {append([]string{lines[0]}, lines...), backup.ErrDamaged},
		"a row less":         {append(append([]string{}, lines[:4]...), lines[5:]...), backup.ErrDamaged},
		"a row twice":        {append(append([]string{}, lines[:4]...), lines[3:]...), backup.ErrDamaged},
		"rows after the end": {append(append([]string{}, lines...), lines[3]), backup.ErrDamaged},
		"another key ID":     {otherKID, backup.ErrDamaged},
		"two rows in a line": {append([]string{strings.TrimSuffix(lines[0], "\n") + lines[1]}, lines[2:]...), backup.ErrDamaged},
		"an unknown row":     {swap(`{"key":`, `{"tenant":`), backup.ErrDamaged},
		"an unknown member":  {swap(`"source":`, `"sauce":`), backup.ErrDamaged},
		"not JSON":           {swap(`{"key":`, `{"key"`), backup.ErrDamaged},
		"a newer version":    {swap(`"spekeasy_backup":2`, `"spekeasy_backup":3,"news":"x"`), backup.ErrNewer},
		"no version":         {swap(`"spekeasy_backup":2`, `"spekeasy_backup":0`), backup.ErrDamaged},
		"a record that was moved": {
			signed(moved, 7, 21, 12), keystore.ErrCorrupt,
		},
		"a data key that was moved": {
			signed(swap(`{"data_key":{"tenant":"acme","id":1`, `{"data_key":{"tenant":"acme","id":9`)[:n-1], 7, 21, 12), keystore.ErrWrongKEK,
		},
		"no custody record": {signed(append([]string{lines[0]}, lines[2:n-1]...), 6, 21, 12), backup.ErrDamaged},
		"as it was":         {signed(lines[:n-1], 7, 21, 12), nil},
	} {
		_, err := backup.Verify(t.Context(), bytes.NewReader(forge(t, id.Recipient(), c.lines...)), []age.Identity{id}, ring(t, 1), nil)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestNothingToBackUp(t *testing.T) {
	if _, err := backup.Write(t.Context(), openDB(t), header, io.Discard, []age.Recipient{identity(t).Recipient()}, nil); !errors.Is(err, backup.ErrNotFounded) {
		t.Errorf("an empty store: %v", err)
	}
}

// full is a disk without room.
type full struct{ left int }

var errFull = errors.New("no space left on device")

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestFullDisk(t *testing.T) {
	db, id := filled(t, 300), identity(t)
	size := len(write(t, db, id.Recipient()))
	for left := 0; left < size; left += 1 + size/20 {
		if _, err := backup.Write(t.Context(), db, header, &full{left}, []age.Recipient{id.Recipient()}, nil); !errors.Is(err, errFull) {
			t.Errorf("room for %d of %d bytes: %v", left, size, err)
		}
	}
}

// TestOnline backs up while keys are created and data keys rotated. What was
// handed out before a backup began is in it, and everything in it is whole.
func TestOnline(t *testing.T) {
	db, id := filled(t, 1200), identity(t)
	k, c := openKeystore(t, db)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { done <- n }()
		for ; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := k.Obtain(t.Context(), ask("acme", 2000+n, 2)); err != nil {
				t.Error(err)
				return
			}
			if n%20 == 0 {
				if _, err := c.Rewrap(t.Context(), keystore.RewrapOptions{NewDataKeys: true}); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	for i := range 4 {
		before, err := k.Obtain(t.Context(), ask("acme", 30_000+100*i, 100))
		if err != nil {
			t.Fatal(err)
		}
		file := write(t, db, id.Recipient())
		fresh := openDB(t)
		if _, err := backup.Restore(t.Context(), bytes.NewReader(file), []age.Identity{id}, ring(t, 1), fresh, nil); err != nil {
			t.Fatal(err)
		}
		after, _ := openKeystore(t, fresh)
		got, err := after.Obtain(t.Context(), ask("acme", 30_000+100*i, 100))
		if err != nil || len(got) != len(before) {
			t.Fatalf("after a restore: %d keys, %v", len(got), err)
		}
		for j := range got {
			if got[j].Value != before[j].Value || got[j].IV != before[j].IV || got[j].Created {
				t.Fatalf("key %s, which was handed out before the backup began, has changed", got[j].KID)
			}
		}
		for page, err := range keystore.BindingPages(t.Context(), fresh, "acme", keystore.BindingFilter{}) {
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range page {
				if r, err := fresh.Keys(t.Context(), "acme", []contentkey.KID{b.KID}); len(r) != 1 || err != nil {
					t.Fatalf("a binding without its key: %v", err)
				}
			}
		}
	}
	close(stop)
	if n := <-done; n < 40 {
		t.Errorf("only %d requests meanwhile", n)
	}
}
