package upstream

import (
	"errors"
	"time"
)

// Duration is a [time.Duration] that is written as text, such as 500ms.
type Duration time.Duration

// UnmarshalText reads a duration. The error does not quote it.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return errors.New("not a duration such as 500ms, 2s or 5m")
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes a duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }
