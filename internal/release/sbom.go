package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"
)

// A bill of materials in CycloneDX 1.6, as far as we write it.
type (
	bom struct {
		Schema       string       `json:"$schema"`
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		SerialNumber string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     bomMetadata  `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	bomMetadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Type       string        `json:"type"`
		Ref        string        `json:"bom-ref"`
		Group      string        `json:"group,omitempty"`
		Name       string        `json:"name"`
		Version    string        `json:"version,omitempty"`
		PURL       string        `json:"purl,omitempty"`
		Hashes     []hash        `json:"hashes,omitempty"`
		Licenses   []license     `json:"licenses,omitempty"`
		Properties []bomProperty `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	license struct {
		License licenseID `json:"license"`
	}
	licenseID struct {
		ID string `json:"id"`
	}
	bomProperty struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// writeSBOM returns the bill of materials of a Go binary: what the linker says
// is in it, with the checksums that go.sum has.
func writeSBOM(src source, name string, text []byte) ([]byte, error) {
	info, err := buildinfo.Read(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	sum := sha256.Sum256(text)
	self := component{
		Type: "application", Ref: "pkg:golang/" + info.Main.Path + "@" + src.version, Name: info.Main.Path, Version: src.version,
		PURL:     "pkg:golang/" + info.Main.Path + "@" + src.version,
		Hashes:   []hash{{"SHA-256", hex.EncodeToString(sum[:])}},
		Licenses: []license{{licenseID{licenseSPDX}}},
	}
	for _, s := range info.Settings {
		if strings.HasPrefix(s.Key, "GO") || s.Key == "CGO_ENABLED" || s.Key == "vcs.revision" || s.Key == "-tags" {
			self.Properties = append(self.Properties, bomProperty{"go:" + s.Key, s.Value})
		}
	}
	// The serial number is a name-based UUID of the binary, so that the same
	// binary has the same bill.
	id := sha256.Sum256(append([]byte("spekeasy bill of materials "), sum[:]...))
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	b := bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		SerialNumber: fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16]),
		Metadata:     bomMetadata{src.time.UTC().Format(time.RFC3339), self},
	}
	std := component{Type: "library", Name: "std", Version: strings.TrimPrefix(info.GoVersion, "go"), Licenses: []license{{licenseID{"BSD-3-Clause"}}}}
	std.PURL = "pkg:golang/std@" + std.Version
	std.Ref = std.PURL
	b.Components = append(b.Components, std)
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component{Type: "library", Group: strings.TrimSuffix(path.Dir(m.Path), "."), Name: path.Base(m.Path), Version: m.Version}
		c.PURL = "pkg:golang/" + m.Path + "@" + m.Version
		c.Ref = c.PURL
		if m.Sum != "" {
			c.Properties = []bomProperty{{"go:sum", m.Sum}} // of the module's files, not of one file
		}
		b.Components = append(b.Components, c)
	}
	all := dependency{Ref: self.Ref}
	for _, c := range b.Components {
		all.DependsOn = append(all.DependsOn, c.Ref)
		b.Dependencies = append(b.Dependencies, dependency{Ref: c.Ref})
	}
	b.Dependencies = append([]dependency{all}, b.Dependencies...)
	return json.MarshalIndent(b, "", "  ")
}
