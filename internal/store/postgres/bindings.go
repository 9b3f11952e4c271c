package postgres

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"spekeasy/internal/keystore"
)

const bindingColumns = "kid, identity, content_id, requested, track, scheme, " +
	"period_id, period_index, period_start, period_end, profile, systems, iv, first_seen, last_seen"

const mergeBindings = "INSERT INTO bindings AS b (tenant, content, " + bindingColumns + `)
	SELECT tenant, content, kid, identity, content_id, requested, track, scheme,
		period_id, period_index, period_start, period_end, profile, systems::jsonb, iv, first_seen, last_seen
	FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[], $5::text[], $6::bytea[], $7::text[], $8::text[],
		$9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
		$16::timestamptz[], $17::timestamptz[])
		AS v (tenant, content, kid, identity, content_id, requested, track, scheme,
		period_id, period_index, period_start, period_end, profile, systems, iv, first_seen, last_seen)
	ON CONFLICT (tenant, kid, identity) DO UPDATE SET
		systems = b.systems || excluded.systems,
		profile = CASE WHEN excluded.last_seen < b.last_seen THEN b.profile ELSE excluded.profile END,
		iv = CASE WHEN excluded.last_seen < b.last_seen OR excluded.iv = '' THEN b.iv ELSE excluded.iv END,
		last_seen = greatest(b.last_seen, excluded.last_seen)`

// identified is a binding with its identity.
type identified struct {
	*keystore.Binding
	id [sha256.Size]byte
}

// queueBindings queues statements that merge the bindings. One statement
// cannot change a row twice, so bindings that occur again wait for the next.
func queueBindings(b *pgx.Batch, bindings []keystore.Binding) {
	rows := make([]identified, len(bindings))
	for i := range bindings {
		rows[i] = identified{&bindings[i], bindings[i].Identity()}
	}
	slices.SortStableFunc(rows, func(a, b identified) int { return bytes.Compare(a.id[:], b.id[:]) })
	for len(rows) > 0 {
		var now, later []identified
		for _, r := range rows {
			if len(now) > 0 && now[len(now)-1].id == r.id {
				later = append(later, r)
			} else {
				now = append(now, r)
			}
		}
		b.Queue(mergeBindings, bindingArguments(now)...)
		rows = later
	}
}

// bindingArguments returns the arguments of mergeBindings.
func bindingArguments(rows []identified) []any {
	n := len(rows)
	tenants, contents, kids, ids := make([]string, n), make([][]byte, n), make([][]byte, n), make([][]byte, n)
	contentIDs, requested, tracks, schemes := make([]string, n), make([][]byte, n), make([]string, n), make([]string, n)
	periods, indexes, starts, ends := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	profiles, systems, ivs := make([]string, n), make([]string, n), make([]string, n)
	first, last := make([]time.Time, n), make([]time.Time, n)
	for i := range rows {
		b, p := rows[i].Binding, &rows[i].Period
		tenants[i], contents[i], kids[i], ids[i] = b.Tenant, contentDigest(b.ContentID), b.KID[:], rows[i].id[:]
		contentIDs[i], requested[i], tracks[i], schemes[i] = b.ContentID, b.Requested[:], b.Track, b.Scheme.String()
		periods[i], indexes[i], starts[i], ends[i] = p.ID, p.Index, p.Start, p.End
		profiles[i], systems[i], ivs[i] = b.Profile, systemsObject(b.Systems), b.IV
		first[i], last[i] = b.FirstSeen, b.LastSeen
	}
	return []any{tenants, contents, kids, ids, contentIDs, requested, tracks, schemes,
		periods, indexes, starts, ends, profiles, systems, ivs, first, last}
}

// contentDigest is what a content ID is looked up by.
func contentDigest(contentID string) []byte {
	sum := sha256.Sum256([]byte(contentID))
	return sum[:16]
}

// systemsObject returns a JSON object whose names are the system IDs. Such
// objects are merged by one operator, without reading the row first.
func systemsObject(ids []string) string {
	object := make(map[string]int, len(ids))
	for _, id := range ids {
		object[id] = 1
	}
	b, _ := json.Marshal(object) // texts and numbers only
	return string(b)
}

func scanBinding(tenant string, row pgx.CollectableRow) (identified, error) {
	b := &keystore.Binding{Tenant: tenant}
	r := identified{Binding: b}
	var kid, id, requested []byte
	var scheme string
	var systems map[string]int
	err := row.Scan(&kid, &id, &b.ContentID, &requested, &b.Track, &scheme,
		&b.Period.ID, &b.Period.Index, &b.Period.Start, &b.Period.End, &b.Profile, &systems, &b.IV, &b.FirstSeen, &b.LastSeen)
	if err != nil {
		return r, err
	}
	copy(b.KID[:], kid)
	copy(b.Requested[:], requested)
	copy(r.id[:], id)
	if len(kid) != len(b.KID) || len(requested) != len(b.Requested) || len(id) != len(r.id) ||
		b.Scheme.UnmarshalText([]byte(scheme)) != nil {
		return r, fmt.Errorf("binding of content key %s: %w: key IDs of %d and %d bytes, identity of %d, scheme %q",
			b.KID, keystore.ErrCorrupt, len(requested), len(kid), len(id), scheme)
	}
	b.Systems = slices.Sorted(maps.Keys(systems))
	b.FirstSeen, b.LastSeen = b.FirstSeen.UTC(), b.LastSeen.UTC()
	return r, nil
}
