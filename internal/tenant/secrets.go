package tenant

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"spekeasy/internal/keystore"
	"spekeasy/internal/upstream"
)

// Hidden stands in the place of a secret that is set, wherever settings are
// written.
const Hidden = "(secret)"

const placeSeed = "key_source.seed"

// secrets calls f for every secret that is set, with its place, and puts what
// f returns in that place. Webhooks are named by their names, since the order
// of a list may change.
func (s *Settings) secrets(f func(place, value string) string) {
	if s.KeySource.Seed != "" {
		s.KeySource.Seed = f(placeSeed, s.KeySource.Seed)
	}
	if s.Upstream != nil {
		s.Upstream.Secrets(func(place string, v upstream.Secret) upstream.Secret {
			return upstream.Secret(f("upstream."+place, string(v)))
		})
	}
	for i := range s.Webhooks {
		w := &s.Webhooks[i]
		for name, v := range map[string]*Secret{"secret": &w.Secret, "former_secret": &w.FormerSecret} {
			if *v != "" {
				*v = Secret(f("webhooks."+w.Name+"."+name, string(*v)))
			}
		}
	}
}

func (s *Settings) secretsByPlace() map[string]string {
	all := make(map[string]string)
	s.secrets(func(place, value string) string {
		all[place] = value
		return value
	})
	return all
}

// sealable returns the secrets as they are sealed, nil for none.
func (s *Settings) sealable() ([]byte, error) {
	all := s.secretsByPlace()
	if len(all) == 0 {
		return nil, nil
	}
	return json.Marshal(all)
}

// unseal puts what was sealed in its places.
func (s *Settings) unseal(sealed []byte) error {
	all := make(map[string]string)
	if len(sealed) > 0 {
		if err := json.Unmarshal(sealed, &all); err != nil {
			return fmt.Errorf("tenant %s: %w: its secrets", s.ID, keystore.ErrCorrupt)
		}
	}
	s.KeySource.Seed = all[placeSeed]
	var err error
	s.secrets(func(place, _ string) string {
		v, ok := all[place]
		if !ok {
			err = fmt.Errorf("tenant %s: %w: %s is not among its secrets", s.ID, keystore.ErrCorrupt, place)
		}
		return v
	})
	return err
}

// Keep puts the secrets of the settings before where s has [Hidden] in their
// place. Those of an upstream are kept as long as they go to the same hosts,
// so that whoever may change settings cannot have them sent to himself. A
// tenant that is new has none to keep: former is nil. The error names the
// place of a secret that has to be given.
func (s *Settings) Keep(former *Settings) error {
	var old map[string]string
	same := false
	if former != nil {
		old = former.secretsByPlace()
		same = s.Upstream != nil && former.Upstream != nil && s.Upstream.SameAddresses(former.Upstream)
	}
	var err error
	s.secrets(func(place, value string) string {
		if value != Hidden {
			return value
		}
		kept, ok := old[place]
		switch {
		case !ok:
			err = fmt.Errorf("%s: %s keeps what there is, but there is nothing", place, Hidden)
		case strings.HasPrefix(place, "upstream.") && !same:
			err = fmt.Errorf("%s: has to be given again, since vendor, host or ca of the upstream change", place)
		}
		return kept
	})
	return err
}

// ChangedSecrets names the members of the settings that have other secrets
// than before.
func (s *Settings) ChangedSecrets(before *Settings) []string {
	var names []string
	changed := func(a, b map[string]string) {
		for place, v := range a {
			if w, ok := b[place]; !ok || v != w {
				name, _, _ := strings.Cut(place, ".")
				names = append(names, name)
			}
		}
	}
	a, b := s.secretsByPlace(), before.secretsByPlace()
	changed(a, b)
	changed(b, a)
	slices.Sort(names)
	return slices.Compact(names)
}
