package keystore

import (
	"context"
	"iter"
)

// Bindings walks the bindings of a content, some hundred at a time: under
// which key IDs, for which tracks and periods, it was asked for. The error is
// [ErrNoCustody] for a store that cannot page.
func (k *Keystore) Bindings(ctx context.Context, tenant, contentID string) iter.Seq2[[]Binding, error] {
	err := CheckTenant(tenant)
	p, ok := underlying(k.store).(Pager)
	switch {
	case k.closed.Load():
		err = ErrClosed
	case !ok:
		err = ErrNoCustody
	}
	if err != nil {
		return func(yield func([]Binding, error) bool) { yield(nil, err) }
	}
	return func(yield func([]Binding, error) bool) {
		for page, err := range BindingPages(ctx, p, tenant, BindingFilter{ContentID: contentID}) {
			if !yield(page, late(err)) || err != nil {
				return
			}
		}
	}
}
