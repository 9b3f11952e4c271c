package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"

	"spekeasy/encryptor"
)

const masked = "********"

// keyText is a content key for people: 32 hexadecimal digits, or a mask.
func keyText(k *encryptor.Key, show bool) string {
	switch {
	case !k.HasValue:
		return "none"
	case show:
		return hex.EncodeToString(k.Value[:])
	}
	return masked
}

// tracksOf and periodsOf are what a key is for, in few words.
func tracksOf(k *encryptor.Key) string {
	return joinUses(k, func(u encryptor.Use) string { return u.Track })
}

func periodsOf(k *encryptor.Key) string {
	return joinUses(k, func(u encryptor.Use) string { return u.Period.Name() })
}

func joinUses(k *encryptor.Key, text func(encryptor.Use) string) string {
	var out []string
	for _, u := range k.Uses {
		if t := text(u); t != "" && (len(out) == 0 || out[len(out)-1] != t) {
			out = append(out, t)
		}
	}
	if len(out) == 0 {
		return "-"
	}
	return strings.Join(out, ",")
}

// printAnswer writes an answer as a table: a row for each DRM system of each
// content key.
func printAnswer(w io.Writer, a *encryptor.Answer, showKeys bool) error {
	sealed := ""
	if a.Encrypted {
		sealed = ", content keys encrypted to the certificate"
	}
	fmt.Fprintf(w, "content %s, answered by %s%s\n\n", a.ContentID, a.UserAgent, sealed)
	var t table
	t.row("KEY ID", "TRACK", "PERIOD", "SCHEME", "KEY", "IV", "DRM SYSTEM", "SIGNALED")
	for i := range a.Keys {
		k := &a.Keys[i]
		kid := k.KID.String()
		if k.Requested != k.KID {
			kid += " (asked " + k.Requested.String() + ")"
		}
		head := []string{kid, tracksOf(k), periodsOf(k), orDash(k.Scheme), keyText(k, showKeys), orDash(k.ExplicitIV)}
		for _, s := range k.Systems {
			t.row(append(head, s.Name, strings.Join(s.Signaled(), ", "))...)
			head = []string{"", "", "", "", "", ""}
		}
		if len(k.Systems) == 0 {
			t.row(append(head, "-", "-")...)
		}
	}
	return t.write(w)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

var plainValue = regexp.MustCompile(`(PlainValue[^>]*>)[^<]*(<)`)

// rawAnswer is the document with the content keys masked unless they may be
// shown.
func rawAnswer(a *encryptor.Answer, showKeys bool) []byte {
	if showKeys {
		return a.Body()
	}
	out := plainValue.ReplaceAll(a.Body(), []byte("${1}"+masked+"${2}"))
	for i := range a.Keys {
		if k := &a.Keys[i]; k.HasValue {
			out = bytes.ReplaceAll(out, []byte(base64.StdEncoding.EncodeToString(k.Value[:])), []byte(masked))
		}
	}
	return out
}

// The JSON form of an answer.
type jsonAnswer struct {
	ContentID  string     `json:"content_id"`
	UserAgent  string     `json:"user_agent"`
	Encrypted  bool       `json:"encrypted"`
	Keys       []jsonKey  `json:"keys"`
	Violations []jsonRule `json:"violations"`
}

type jsonKey struct {
	KID        string       `json:"kid"`
	Requested  string       `json:"requested_kid"`
	Key        string       `json:"key,omitzero"` // hexadecimal, or masked
	Scheme     string       `json:"scheme,omitzero"`
	ExplicitIV string       `json:"explicit_iv,omitzero"`
	HDCPLevel  string       `json:"hdcp_level,omitzero"`
	Uses       []jsonUse    `json:"uses,omitzero"`
	Systems    []jsonSystem `json:"systems"`
}

type jsonUse struct {
	Track       string `json:"track,omitzero"`
	PeriodID    string `json:"period_id,omitzero"`
	PeriodIndex string `json:"period_index,omitzero"`
	PeriodStart string `json:"period_start,omitzero"`
	PeriodEnd   string `json:"period_end,omitzero"`
}

type jsonSystem struct {
	Name              string `json:"name"`
	SystemID          string `json:"system_id"`
	PSSH              []byte `json:"pssh,omitzero"`
	ContentProtection string `json:"content_protection,omitzero"`
	Robustness        string `json:"robustness,omitzero"`
	HLSMedia          string `json:"hls_media,omitzero"`
	HLSMaster         string `json:"hls_master,omitzero"`
	Smooth            []byte `json:"smooth,omitzero"`
	KeyURI            string `json:"key_uri,omitzero"`
	KeyFormat         string `json:"key_format,omitzero"`
	KeyFormatVersions string `json:"key_format_versions,omitzero"`
	AllowedCPC        string `json:"allowed_cpc,omitzero"`
}

type jsonRule struct {
	Rule    string `json:"rule"`
	Message string `json:"message"`
	Advice  bool   `json:"advice"`
}

func printJSON(w io.Writer, a *encryptor.Answer, found []encryptor.Violation, showKeys bool) error {
	out := jsonAnswer{ContentID: a.ContentID, UserAgent: a.UserAgent, Encrypted: a.Encrypted, Keys: []jsonKey{}, Violations: []jsonRule{}}
	for i := range a.Keys {
		k := &a.Keys[i]
		j := jsonKey{
			KID: k.KID.String(), Requested: k.Requested.String(), Key: keyText(k, showKeys),
			Scheme: k.Scheme, ExplicitIV: k.ExplicitIV, HDCPLevel: k.HDCPLevel, Systems: []jsonSystem{},
		}
		for _, u := range k.Uses {
			j.Uses = append(j.Uses, jsonUse{u.Track, u.Period.ID, u.Period.Index, u.Period.Start, u.Period.End})
		}
		for _, s := range k.Systems {
			j.Systems = append(j.Systems, jsonSystem{
				s.Name, s.System.String(), s.PSSH, s.ContentProtection, s.Robustness, s.HLSMedia, s.HLSMaster, s.Smooth,
				s.KeyURI, s.KeyFormat, s.KeyFormatVersions, s.AllowedCPC,
			})
		}
		out.Keys = append(out.Keys, j)
	}
	for _, v := range found {
		out.Violations = append(out.Violations, jsonRule{v.Rule, v.Message, v.Advice})
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
