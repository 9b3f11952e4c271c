package secretsmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Set is the versions of the secrets that one configuration was read with.
// Each secret is asked for once. A set is not for concurrent use.
type Set struct {
	client  *Client
	secrets map[string]secret // by ARN
}

// NewSet returns an empty set.
func (c *Client) NewSet() *Set { return &Set{client: c, secrets: make(map[string]secret)} }

// Resolve returns what a reference, ARN or ARN#FIELD, stands for. The error
// names the secret and never holds any of it.
func (s *Set) Resolve(ctx context.Context, ref string) (string, error) {
	arn, field, part := strings.Cut(ref, "#")
	v, ok := s.secrets[arn]
	if !ok {
		var err error
		if v, err = s.client.get(ctx, arn); err != nil {
			return "", fmt.Errorf("secret %s: %w", arn, err)
		}
		s.secrets[arn] = v
	}
	if !part {
		return v.text, nil
	}
	text, err := member(v.text, field)
	if err != nil {
		return "", fmt.Errorf("secret %s: %w", arn, err)
	}
	return text, nil
}

// member returns a text or number of a JSON object.
func member(object, field string) (string, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(object), &members) != nil {
		return "", errors.New("not a JSON object, of which a field could be taken")
	}
	value, ok := members[field]
	if !ok {
		return "", fmt.Errorf("it has no field %q", field)
	}
	var text string
	if json.Unmarshal(value, &text) == nil && value[0] == '"' {
		return text, nil
	}
	var number json.Number
	if json.Unmarshal(value, &number) == nil && number != "" {
		return number.String(), nil
	}
	return "", fmt.Errorf("its field %q is neither text nor a number", field)
}

// Empty reports whether nothing was referred to.
func (s *Set) Empty() bool { return len(s.secrets) == 0 }

// Changed asks for all secrets again and reports whether one of them has
// another version than before. With an error, that could not be found out.
func (s *Set) Changed(ctx context.Context) (bool, error) {
	for arn, before := range s.secrets {
		now, err := s.client.get(ctx, arn)
		if err != nil {
			return false, fmt.Errorf("secret %s: %w", arn, err)
		}
		if now != before {
			return true, nil
		}
	}
	return false, nil
}
