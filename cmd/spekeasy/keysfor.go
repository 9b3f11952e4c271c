package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/internal/app"
	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
	"spekeasy/internal/packager"
	"spekeasy/internal/tenant"
)

// toolFlags are what `spekeasy keys show CONTENT --for TOOL` wants to know.
type toolFlags struct {
	tool, scheme, track, period string
}

// showFor prints the keys of a content as a packaging tool takes them.
func (f *toolFlags) showFor(ctx context.Context, e *env, o *operatorFlags, tenantID string, args []string, showKeys bool) error {
	switch {
	case !slices.Contains(packager.Tools(), f.tool):
		return fmt.Errorf("--for: %q is none of %s", f.tool, strings.Join(packager.Tools(), ", "))
	case len(args) != 1:
		return errors.New("--for wants one content ID")
	case !showKeys:
		return errors.New("what --for prints holds content keys in clear: add --show-keys")
	}
	var scheme contentkey.Scheme
	if f.scheme != "" {
		var err error
		if scheme, err = contentkey.ParseScheme(f.scheme); err != nil || scheme != contentkey.Cenc && scheme != contentkey.Cbcs {
			return fmt.Errorf("--scheme: %q is neither cenc nor cbcs", f.scheme)
		}
	}
	return o.operate(ctx, e, func(c *config.Config, op *app.Operator) error {
		if err := checkTenant(c, tenantID); err != nil {
			return err
		}
		t, err := builtTenant(c, tenantID)
		if err != nil {
			return err
		}
		if err := op.OpenStore(ctx, false); err != nil {
			return err
		}
		k, err := op.Keystore(ctx, false, keystore.Options{CacheBytes: -1})
		if err != nil {
			return err
		}
		keys, scheme, err := packager.New(k).Find(ctx, t, args[0], scheme, f.period)
		if err != nil {
			return err
		}
		text, err := packager.Arguments(f.tool, scheme, keys, f.track, rand.Reader)
		if err != nil {
			return err
		}
		_, err = io.WriteString(e.stdout, text)
		return err
	})
}

// builtTenant is a tenant with its settings, or with those of an empty file.
func builtTenant(c *config.Config, id string) (*tenant.Tenant, error) {
	s := &tenant.Settings{ID: id}
	if i := slices.IndexFunc(c.Tenants, func(t tenant.Settings) bool { return t.ID == id }); i >= 0 {
		s = &c.Tenants[i]
	}
	t, err := s.Build()
	if err != nil {
		return nil, fmt.Errorf("tenant %q: %w", id, err)
	}
	return t, nil
}
