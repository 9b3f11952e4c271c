// Package requestid carries the ID of a request to whoever works on it, so
// that logs, records and answers can be put side by side. It has no authority.
package requestid

import "context"

// Key is the key of the ID, a string, among the values of a context.
type Key struct{}

// With returns a context that carries the ID.
func With(ctx context.Context, id string) context.Context { return context.WithValue(ctx, Key{}, id) }

// From returns the ID that the context carries, or "".
func From(ctx context.Context) string {
	id, _ := ctx.Value(Key{}).(string)
	return id
}
