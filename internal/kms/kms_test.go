package kms_test

import (
	"maps"
	"net/url"
	"strings"
	"testing"

	"spekeasy/internal/kms"
)

func TestQuery(t *testing.T) {
	for raw, want := range map[string]map[string]string{
		"x://h/k":                  {},
		"x://h/k?":                 {},
		"x://h/k?region=a":         {"region": "a"},
		"x://h/k?region=a&mount=b": {"region": "a", "mount": "b"},
		"x:k?mount=%2Fa":           {"mount": "/a"},
	} {
		uri, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		got, err := kms.Query(uri, "region", "mount")
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", raw, got, err, want)
		}
	}
}

func TestQueryRefuses(t *testing.T) {
	for raw, want := range map[string]string{
		"x://h/k?pin=hunter2":                "pin",
		"x://h/k?Region=hunter2":             "Region",
		"x://h/k?region=hunter2&region=b":    "twice",
		"x://h/k?region=":                    "empty",
		"x://h/k?region=hunter2;mount=b":     "malformed",
		"x://h/k?region=hunter2%zz":          "malformed",
		"x://user:hunter2@h/k":               "credentials",
		"x://hunter2@h/k":                    "credentials",
		"x://h/k#hunter2":                    "fragment",
		"x://h/k?region=a&mount=b&x=hunter2": "x",
	} {
		uri, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = kms.Query(uri, "region", "mount")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v, want one that mentions %q and no value", raw, err, want)
		}
	}
}
