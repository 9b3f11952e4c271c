package hashivault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/rest"
)

const serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// tokenSource chooses how tokens are had. Secrets are read when they are
// needed, since agents and clusters replace them.
func (m *Manager) tokenSource(address string, params map[string]string, getenv func(string) string) (rest.Fetch, error) {
	method := params["auth"]
	if method == "" {
		method = "token"
	}
	allowed, ok := map[string][]string{
		"token":      {"token_file"},
		"approle":    {"auth_mount", "role_id_file", "secret_id_file"},
		"kubernetes": {"auth_mount", "role", "jwt_file"},
	}[method]
	if !ok {
		return nil, errors.New("auth must be token, approle or kubernetes")
	}
	for _, p := range []string{"auth_mount", "token_file", "role_id_file", "secret_id_file", "role", "jwt_file"} {
		if _, given := params[p]; given && !slices.Contains(allowed, p) {
			return nil, fmt.Errorf("%s does not go with auth=%s", p, method)
		}
	}
	mount := params["auth_mount"]
	if mount == "" {
		mount = method
	}
	login := address + "/v1/auth/" + mount + "/login"

	switch method {
	case "approle":
		return func(ctx context.Context) (string, time.Duration, error) {
			roleID, err := secret(params["role_id_file"], "VAULT_ROLE_ID", getenv)
			if err != nil {
				return "", 0, err
			}
			if roleID == "" {
				return "", 0, fmt.Errorf("%w: neither role_id_file nor VAULT_ROLE_ID is set", kms.ErrDenied)
			}
			// A role may be made to need no secret ID.
			secretID, err := secret(params["secret_id_file"], "VAULT_SECRET_ID", getenv)
			if err != nil {
				return "", 0, err
			}
			return m.login(ctx, login, map[string]string{"role_id": roleID, "secret_id": secretID}, secretID)
		}, nil
	case "kubernetes":
		if params["role"] == "" {
			return nil, errors.New("auth=kubernetes needs role")
		}
		file := params["jwt_file"]
		if file == "" {
			file = serviceAccountToken
		}
		return func(ctx context.Context) (string, time.Duration, error) {
			jwt, err := secret(file, "", getenv)
			if err != nil {
				return "", 0, err
			}
			return m.login(ctx, login, map[string]string{"role": params["role"], "jwt": jwt}, jwt)
		}, nil
	}
	return func(context.Context) (string, time.Duration, error) {
		token, err := secret(params["token_file"], "VAULT_TOKEN", getenv)
		if err == nil && token == "" {
			err = fmt.Errorf("%w: neither token_file nor VAULT_TOKEN is set", kms.ErrDenied)
		}
		return token, 0, err
	}, nil
}

// secret reads a file, or without one a variable.
func secret(file, variable string, getenv func(string) string) (string, error) {
	if file == "" {
		return getenv(variable), nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%w: vault credentials: %w", kms.ErrDenied, err)
	}
	defer clear(b)
	return strings.TrimSpace(string(b)), nil
}

// login exchanges credentials for a token. Vault can repeat the secret among
// them in its answer to a wrong one.
func (m *Manager) login(ctx context.Context, u string, credentials map[string]string, secret string) (string, time.Duration, error) {
	a, err := m.api.Do(ctx, func(ctx context.Context) (*http.Request, error) {
		return m.newRequest(ctx, http.MethodPost, u, "", credentials)
	})
	if err != nil {
		return "", 0, fmt.Errorf("vault login: %w", err)
	}
	defer clear(a.Body)
	if a.Status != http.StatusOK {
		if !fromVault(a) {
			return "", 0, fmt.Errorf("%w: vault login: answered status %d, but not as Vault would", kms.ErrUnavailable, a.Status)
		}
		said := m.api.Explain(a)
		if secret != "" && strings.Contains(words(a), secret) {
			said = fmt.Sprintf("status %d", a.Status)
		}
		return "", 0, fmt.Errorf("%w: vault login: %s", kms.ErrDenied, said)
	}
	var out struct {
		Auth struct {
			Token    string `json:"client_token"`
			Lifetime int    `json:"lease_duration"` // seconds, 0 for ever
		} `json:"auth"`
	}
	if err := a.Decode(&out); err != nil {
		return "", 0, fmt.Errorf("vault login: %w", err)
	}
	if out.Auth.Token == "" || out.Auth.Lifetime < 0 {
		return "", 0, fmt.Errorf("%w: vault login: the answer holds no token", kms.ErrUnavailable)
	}
	return out.Auth.Token, time.Duration(out.Auth.Lifetime) * time.Second, nil
}
