package azurekeyvault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/rest"
)

// tokenSource chooses where tokens for a service come from, in the order and
// from the variables that Azure's own libraries use: a secret, a workload
// identity, the identity of an app, the identity of the machine.
func tokenSource(h *http.Client, service string, getenv func(string) string) (rest.Fetch, error) {
	api := &rest.Client{HTTP: h, Words: rest.TokenWords}
	tenant, client := getenv("AZURE_TENANT_ID"), getenv("AZURE_CLIENT_ID")
	secret, tokenFile := getenv("AZURE_CLIENT_SECRET"), getenv("AZURE_FEDERATED_TOKEN_FILE")
	switch {
	case secret != "" || tokenFile != "":
		if tenant == "" || client == "" {
			return nil, errors.New("AZURE_CLIENT_SECRET and AZURE_FEDERATED_TOKEN_FILE need AZURE_TENANT_ID and AZURE_CLIENT_ID beside them")
		}
		authority := getenv("AZURE_AUTHORITY_HOST")
		if authority == "" {
			authority = "https://login.microsoftonline.com"
		}
		authority, err := rest.Endpoint(authority)
		if err != nil {
			return nil, fmt.Errorf("AZURE_AUTHORITY_HOST: %w", err)
		}
		endpoint := authority + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/token"
		return request(api, func(ctx context.Context) (*http.Request, error) {
			form := url.Values{"grant_type": {"client_credentials"}, "client_id": {client}, "scope": {service + "/.default"}}
			if secret != "" {
				form.Set("client_secret", secret)
				return rest.NewForm(ctx, endpoint, form)
			}
			assertion, err := os.ReadFile(tokenFile) // replaced while we run
			if err != nil {
				return nil, fmt.Errorf("%w: AZURE_FEDERATED_TOKEN_FILE: %w", kms.ErrDenied, err)
			}
			form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
			form.Set("client_assertion", strings.TrimSpace(string(assertion)))
			return rest.NewForm(ctx, endpoint, form)
		}), nil

	case getenv("AZURE_CLIENT_CERTIFICATE_PATH") != "":
		return nil, errors.New("AZURE_CLIENT_CERTIFICATE_PATH: certificates are not supported; use a secret, a workload identity or a managed identity")

	case getenv("IDENTITY_ENDPOINT") != "" && getenv("IDENTITY_HEADER") != "":
		return request(api, func(ctx context.Context) (*http.Request, error) {
			return managedIdentity(ctx, getenv("IDENTITY_ENDPOINT"), "2019-08-01", service, client, "X-IDENTITY-HEADER", getenv("IDENTITY_HEADER"))
		}), nil
	}
	api.Transient = func(a rest.Answer) bool { // while the machine's identity is being set up
		return a.Status == http.StatusNotFound || a.Status == http.StatusGone
	}
	return request(api, func(ctx context.Context) (*http.Request, error) {
		return managedIdentity(ctx, "http://169.254.169.254/metadata/identity/oauth2/token", "2018-02-01", service, client, "Metadata", "true")
	}), nil
}

func managedIdentity(ctx context.Context, endpoint, version, service, client, header, value string) (*http.Request, error) {
	query := url.Values{"api-version": {version}, "resource": {service}}
	if client != "" {
		query.Set("client_id", client)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(header, value)
	return req, nil
}

func request(api *rest.Client, newRequest func(context.Context) (*http.Request, error)) rest.Fetch {
	return func(ctx context.Context) (string, time.Duration, error) {
		token, lifetime, err := rest.RequestToken(ctx, api, newRequest)
		if err != nil {
			return "", 0, fmt.Errorf("azure credentials: %w", err)
		}
		return token, lifetime, nil
	}
}
