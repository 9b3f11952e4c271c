// Package secretref resolves what ${...} stands for in a configuration: an
// environment variable, or a secret that somebody else keeps.
//
//	${NAME}
//	${secretsmanager:ARN}        AWS Secrets Manager, the whole secret
//	${secretsmanager:ARN#FIELD}  a member of the JSON object that it is
//	${vault:PATH#FIELD}          Vault or OpenBao, secrets engine kv of either version
//
// PATH is that of the API, such as secret/data/spekeasy for version 2. The
// address comes from VAULT_ADDR, the token from VAULT_TOKEN or the file that
// VAULT_TOKEN_FILE names, the namespace from VAULT_NAMESPACE.
package secretref

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"spekeasy/internal/secretsmanager"
)

// vaultScheme begins a reference to Vault.
const vaultScheme = "vault:"

// Timeout of one question, and the most that an answer may have.
const (
	timeout   = 10 * time.Second
	maxAnswer = 1 << 20
)

// Resolver resolves the references of one reading of a configuration; each
// secret is asked for once. It is not for concurrent use.
type Resolver struct {
	ctx    context.Context
	getenv func(string) (string, bool)
	aws    *secretsmanager.Set
	vault  map[string]map[string]any // fields by path
	errs   []error
}

// New asks nothing yet. getenv finds environment variables.
func New(ctx context.Context, getenv func(string) (string, bool)) *Resolver {
	endpoint, _ := getenv("AWS_ENDPOINT_URL_SECRETS_MANAGER")
	return &Resolver{
		ctx: ctx, getenv: getenv, vault: make(map[string]map[string]any),
		aws: secretsmanager.New(secretsmanager.Options{Endpoint: strings.TrimSuffix(endpoint, "/")}).NewSet(),
	}
}

// Lookup returns what a reference stands for, and whether it could be found;
// [Resolver.Err] has the reasons.
func (r *Resolver) Lookup(name string) (string, bool) {
	var value string
	var err error
	if ref, ok := strings.CutPrefix(name, secretsmanager.Scheme); ok {
		value, err = r.aws.Resolve(r.ctx, ref)
	} else if ref, ok := strings.CutPrefix(name, vaultScheme); ok {
		value, err = r.fromVault(ref)
	} else {
		return r.getenv(name)
	}
	if err != nil {
		r.errs = append(r.errs, err)
		return "", false
	}
	return value, true
}

// Err is why secrets that others keep could not be found. It names them and
// has nothing of them.
func (r *Resolver) Err() error { return errors.Join(r.errs...) }

func (r *Resolver) fromVault(ref string) (string, error) {
	path, field, ok := strings.Cut(ref, "#")
	if !ok || path == "" || field == "" {
		return "", fmt.Errorf("vault secret %s: want PATH#FIELD", path)
	}
	fields, ok := r.vault[path]
	if !ok {
		var err error
		if fields, err = r.readVault(path); err != nil {
			return "", fmt.Errorf("vault secret %s: %w", path, err)
		}
		r.vault[path] = fields
	}
	switch v := fields[field].(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case nil:
		return "", fmt.Errorf("vault secret %s: it has no field %q", path, field)
	}
	return "", fmt.Errorf("vault secret %s: its field %q is neither text nor a number", path, field)
}

func (r *Resolver) readVault(path string) (map[string]any, error) {
	token, err := r.vaultToken()
	if err != nil {
		return nil, err
	}
	address, _ := r.getenv("VAULT_ADDR")
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return nil, errors.New("VAULT_ADDR is not the http or https URL of a server")
	}
	ctx, cancel := context.WithTimeout(r.ctx, timeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("v1", path).String(), nil)
	if err != nil {
		return nil, errors.New("the path cannot be asked for")
	}
	q.Header.Set("X-Vault-Token", token)
	q.Header.Set("X-Vault-Request", "true")
	if namespace, ok := r.getenv("VAULT_NAMESPACE"); ok {
		q.Header.Set("X-Vault-Namespace", namespace)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(q)
	if err != nil {
		return nil, err // of a URL without secrets
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %s", res.Status)
	}
	return vaultFields(body)
}

// vaultFields finds the fields in an answer of the secrets engine kv. Its
// version 2 has them one level deeper, beside metadata.
func vaultFields(body []byte) (map[string]any, error) {
	var answer struct {
		Data map[string]any `json:"data"`
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	if d.Decode(&answer) != nil || answer.Data == nil {
		return nil, errors.New("the server's answer is not that of a secret")
	}
	_, versioned := answer.Data["metadata"].(map[string]any)
	if inner, ok := answer.Data["data"].(map[string]any); ok && versioned {
		return inner, nil
	}
	return answer.Data, nil
}

func (r *Resolver) vaultToken() (string, error) {
	if token, ok := r.getenv("VAULT_TOKEN"); ok && token != "" {
		return token, nil
	}
	file, ok := r.getenv("VAULT_TOKEN_FILE")
	if !ok {
		return "", errors.New("neither VAULT_TOKEN nor VAULT_TOKEN_FILE is set")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("VAULT_TOKEN_FILE: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
