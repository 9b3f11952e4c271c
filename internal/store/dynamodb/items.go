package dynamodb

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// item is what DynamoDB stores.
type item = map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func binary(b []byte) types.AttributeValue {
	if b == nil {
		b = []byte{}
	}
	return &types.AttributeValueMemberB{Value: b}
}

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// micros is the stored form of a time: microseconds since 1970, 0 for none.
func micros(t time.Time) types.AttributeValue {
	if t.IsZero() {
		return number(0)
	}
	return number(t.UnixMicro())
}

// storable reports texts that would not come back as they are.
func storable(texts ...string) error {
	for _, s := range texts {
		if !utf8.ValidString(s) {
			return refuse("the text %.40q is not UTF-8", s)
		}
	}
	return nil
}

// checkTenant reports a tenant whose keys could be taken for those of
// another, or would not be in the order of the names.
func checkTenant(tenant string) error {
	for i := range len(tenant) {
		if tenant[i] <= '$' {
			return refuse("tenant %.100q cannot be part of a key", tenant)
		}
	}
	if tenant == "" || len(tenant) > 255 {
		return refuse("tenant %.100q cannot be part of a key", tenant)
	}
	return storable(tenant)
}

// fields reads the attributes of an item; the first one that is not what it
// should be is the error.
type fields struct {
	item
	err error
}

func (f *fields) fail(name string) {
	if f.err == nil {
		f.err = fmt.Errorf("%w: attribute %s", keystore.ErrCorrupt, name)
	}
}

func (f *fields) text(name string) string {
	v, ok := f.item[name].(*types.AttributeValueMemberS)
	if !ok {
		f.fail(name)
		return ""
	}
	return v.Value
}

func (f *fields) binary(name string) []byte {
	v, ok := f.item[name].(*types.AttributeValueMemberB)
	if !ok {
		f.fail(name)
		return nil
	}
	return v.Value
}

func (f *fields) number(name string) int64 {
	v, ok := f.item[name].(*types.AttributeValueMemberN)
	if !ok {
		f.fail(name)
		return 0
	}
	n, err := strconv.ParseInt(v.Value, 10, 64)
	if err != nil {
		f.fail(name)
	}
	return n
}

func (f *fields) uint32(name string) uint32 {
	n := f.number(name)
	if n < 0 || n > 1<<32-1 {
		f.fail(name)
	}
	return uint32(n)
}

func (f *fields) time(name string) time.Time {
	if n := f.number(name); n != 0 {
		return time.UnixMicro(n).UTC()
	}
	return time.Time{}
}

func (f *fields) kid(name string) contentkey.KID {
	kid, err := contentkey.ParseKID(f.text(name))
	if err != nil {
		f.fail(name)
	}
	return kid
}

func (f *fields) scheme(name string) (s contentkey.Scheme) {
	if s.UnmarshalText([]byte(f.text(name))) != nil {
		f.fail(name)
	}
	return s
}

// set reads a set of texts, which is absent when it is empty.
func (f *fields) set(name string) []string {
	if f.item[name] == nil {
		return nil
	}
	v, ok := f.item[name].(*types.AttributeValueMemberSS)
	if !ok {
		f.fail(name)
		return nil
	}
	slices.Sort(v.Value)
	return v.Value
}

// A content key.

func keyAt(tenant string, kid contentkey.KID) item {
	sk := kid.String()
	return item{"pk": text(partition("key", tenant, sk)), "sk": text(sk)}
}

func recordItem(r *keystore.Record) item {
	it := keyAt(r.Tenant, r.KID)
	it["wrapped"], it["data_key"] = binary(r.Wrapped), number(int64(r.DataKey))
	it["source"], it["content_id"], it["scheme"] = text(r.Source), text(r.ContentID), text(r.Scheme.String())
	it["created"], it["deleted"] = micros(r.Created), micros(r.Deleted)
	return it
}

func recordOf(tenant string, it item) (keystore.Record, error) {
	f := fields{item: it}
	r := keystore.Record{
		Tenant: tenant, KID: f.kid("sk"), Wrapped: f.binary("wrapped"), DataKey: f.uint32("data_key"), Source: f.text("source"),
		ContentID: f.text("content_id"), Scheme: f.scheme("scheme"), Created: f.time("created"), Deleted: f.time("deleted"),
	}
	if f.err != nil {
		return r, fmt.Errorf("content key %s: %w", r.KID, f.err)
	}
	return r, nil
}

// A data key.

const dataKeys = "datakeys"

func dataKeyAt(tenant string, id uint32) item {
	return item{"pk": text(dataKeys), "sk": text(fmt.Sprintf("%s#%010d", tenant, id))}
}

func dataKeyItem(k *keystore.DataKey) item {
	it := dataKeyAt(k.Tenant, k.ID)
	it["kek"], it["wrapped"], it["created"] = text(k.KEK), binary(k.Wrapped), micros(k.Created)
	return it
}

func dataKeyOf(it item) (keystore.DataKey, error) {
	f := fields{item: it}
	tenant, id, _ := strings.Cut(f.text("sk"), "#")
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		f.fail("sk")
	}
	k := keystore.DataKey{
		Tenant: tenant, ID: uint32(n), KEK: f.text("kek"), Wrapped: f.binary("wrapped"), Created: f.time("created"),
	}
	if f.err != nil {
		return k, fmt.Errorf("data key %d of %s: %w", k.ID, tenant, f.err)
	}
	return k, nil
}

// A binding.

// contentPrefix begins the sk of bindings of a content ID.
func contentPrefix(contentID string) string {
	sum := sha256.Sum256([]byte(contentID))
	return hex.EncodeToString(sum[:16]) + "#"
}

func kidPrefix(kid contentkey.KID) string { return kid.String() + "#" }

// bindingAt returns the key of a binding.
func bindingAt(b *keystore.Binding) item {
	id := b.Identity()
	return contentAt(b.Tenant, contentPrefix(b.ContentID)+hex.EncodeToString(id[:]))
}

func contentAt(tenant, sk string) item {
	return item{"pk": text(partition("content", tenant, sk)), "sk": text(sk)}
}

// pointers returns the items by which a binding is found by key ID.
func pointers(b *keystore.Binding) []item {
	id := b.Identity()
	at := bindingAt(b)["sk"]
	kids := []contentkey.KID{b.KID}
	if b.Requested != b.KID {
		kids = append(kids, b.Requested)
	}
	var all []item
	for _, kid := range kids {
		sk := kidPrefix(kid) + hex.EncodeToString(id[:])
		all = append(all, item{"pk": text(partition("kid", b.Tenant, sk)), "sk": text(sk), "binding": at})
	}
	return all
}

func bindingOf(tenant string, it item) (keystore.Binding, error) {
	f := fields{item: it}
	b := keystore.Binding{
		Tenant: tenant, ContentID: f.text("content_id"), Requested: f.kid("requested"), KID: f.kid("kid"), Track: f.text("track"),
		Scheme: f.scheme("scheme"), Profile: f.text("profile"), Systems: f.set("systems"), IV: f.text("iv"),
		FirstSeen: f.time("first_seen"), LastSeen: f.time("last_seen"),
		Period: contentkey.Period{
			ID: f.text("period_id"), Index: f.text("period_index"), Start: f.text("period_start"), End: f.text("period_end"),
		},
	}
	if f.err != nil {
		return b, fmt.Errorf("binding %s: %w", f.text("sk"), f.err)
	}
	return b, nil
}
