// Package envkey takes key-encryption keys (KEKs) from an environment
// variable, as container platforms hand secrets to a process. It is chosen by
// the URI env:NAME.
//
// The variable holds the base64 of 32 bytes, or a list separated by commas,
// the KEK that wraps first. Each may have a name before it, as in
// "2026-11:BASE64"; without one its name is derived from its bytes.
package envkey

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/keyring"
)

// Open returns the KEKs of the variable that the URI names. It reads the
// variable with lookup, such as os.LookupEnv, and keeps only opened ciphers.
func Open(uri *url.URL, lookup func(string) (string, bool)) (*keyring.Ring, error) {
	if uri.Scheme != "env" || uri.Opaque == "" {
		return nil, errors.New("key manager URI: want env:NAME")
	}
	if _, err := kms.Query(uri); err != nil {
		return nil, err
	}
	value, ok := lookup(uri.Opaque)
	if !ok || strings.TrimSpace(value) == "" {
		return nil, fmt.Errorf("%w: the environment variable %s is not set", kms.ErrKeyUnusable, uri.Opaque)
	}
	ring := new(keyring.Ring)
	for i, item := range strings.Split(value, ",") {
		if err := add(ring, strings.TrimSpace(item)); err != nil {
			return nil, fmt.Errorf("environment variable %s, KEK %d: %w", uri.Opaque, i+1, err)
		}
	}
	return ring, nil
}

func add(ring *keyring.Ring, item string) error {
	id, text, named := strings.Cut(item, ":")
	if !named {
		text = item
	}
	key, err := keyring.Parse(text)
	if err != nil {
		return err
	}
	defer clear(key)
	if !named {
		id = keyring.ID(key)
	}
	return ring.Add(id, key)
}
