package config

import (
	"bytes"
	_ "embed"
	"fmt"
	"text/template"
)

//go:embed initial.yaml
var initialText string

// Initial is what a new configuration file begins with.
type Initial struct {
	Data         string // directory
	Tenant       string // the first one, whose user in HTTP Basic has the same name
	PasswordHash string // that user's
}

// File returns a configuration file with every setting, its default and its
// meaning.
func (i Initial) File() ([]byte, error) {
	t, err := template.New("configuration").Parse(initialText)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, i); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return out.Bytes(), nil
}
