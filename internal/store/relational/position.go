package relational

import (
	"fmt"
	"strconv"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// FeedPosition is the text of a place in the feed, "" for its beginning.
func FeedPosition(seq int64) string {
	if seq == 0 {
		return ""
	}
	return strconv.FormatInt(seq, 10)
}

// ParseFeedPosition reads a place in the feed. The error is
// [keystore.ErrPosition].
func ParseFeedPosition(position string) (seq int64, err error) {
	if position == "" {
		return 0, nil
	}
	if seq, err = strconv.ParseInt(position, 10, 64); err != nil || seq < 0 {
		return 0, fmt.Errorf("position %.40q: %w", position, keystore.ErrPosition)
	}
	return seq, nil
}

// ParseKeyPosition reads a place among content keys: the bytes of the last
// key ID, or for "" what comes before every one.
func ParseKeyPosition(position string) ([]byte, error) {
	if position == "" {
		return []byte{}, nil
	}
	kid, err := contentkey.ParseKID(position)
	if err != nil {
		return nil, fmt.Errorf("position %q: %w", position, err)
	}
	return kid[:], nil
}
