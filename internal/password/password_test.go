package password_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"spekeasy/internal/password"
)

func TestMatches(t *testing.T) {
	made, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	salt := []byte("somesalt")
	own := fmt.Sprintf("$argon2id$v=19$m=64,t=1,p=2$%s$%s", base64.RawStdEncoding.EncodeToString(salt),
		base64.RawStdEncoding.EncodeToString(argon2.IDKey([]byte("secret"), salt, 1, 64, 2, 32)))
	for name, c := range map[string]struct{ hash, password string }{
		"bcrypt":     {string(made), "secret"},
		"bcrypt, 2y": {strings.Replace(string(made), "$2a$", "$2y$", 1), "secret"}, // as htpasswd writes
		"argon2id":   {own, "secret"},
		// The reference implementation's own test: password "password", salt "somesalt".
		"argon2id of the reference": {"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := password.Parse(c.hash)
			if err != nil {
				t.Fatal(err)
			}
			if !h.Matches(c.password) {
				t.Error("the password does not match")
			}
			for _, wrong := range []string{"", "Secret", c.password + "x", c.hash} {
				if h.Matches(wrong) {
					t.Errorf("%q matches", wrong)
				}
			}
		})
	}
}

func TestParseFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "neither",
		"hunter2":                           "neither",
		"$1$a$b":                            "neither",
		"$2a$10$x":                          "not a bcrypt hash",
		"$2a$16$" + strings.Repeat("a", 53): "cost 16 is above 15",
		"$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" + k:            "neither",
		"$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHQ$" + k:           "neither",
		"$argon2id$v=19$m=64,t=1$c29tZXNhbHQ$" + k:               "parameters",
		"$argon2id$v=19$m=64,t=1,p=1,x=2$c29tZXNhbHQ$" + k:       "parameters",
		"$argon2id$v=19$m=64,t=1,p=300$c29tZXNhbHQ$" + k:         "parameters",
		"$argon2id$v=19$m=064,t=1,p=1$c29tZXNhbHQ$" + k:          "parameters",
		"$argon2id$v=19$m=4,t=1,p=1$c29tZXNhbHQ$" + k:            "must be",
		"$argon2id$v=19$m=2097152,t=1,p=1$c29tZXNhbHQ$" + k:      "must be",
		"$argon2id$v=19$m=64,t=0,p=1$c29tZXNhbHQ$" + k:           "must be",
		"$argon2id$v=19$m=64,t=1,p=1$!$" + k:                     "salt",
		"$argon2id$v=19$m=64,t=1,p=1$c29t$" + k:                  "salt",
		"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$c29tZXNhbHQ":    "hash",
		"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" + k + "$more": "neither",
	} {
		if _, err := password.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

const k = "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"

func FuzzParse(f *testing.F) {
	f.Add("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$" + k)
	f.Add("$2a$10$" + strings.Repeat("a", 53))
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := password.Parse(text); (h == nil) == (err == nil) {
			t.Errorf("%q: %v, %v", text, h, err)
		}
	})
}
