package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"spekeasy/internal/audit"
	"spekeasy/internal/tenant"
)

const keyRequest = "../../examples/request-v2.xml"

// TestOAuthClient asks for a token and then for keys with Go's own client, in
// each of its styles, and as Insys' encryptors do.
func TestOAuthClient(t *testing.T) {
	s := exampleTenant()
	s.Credentials = []tenant.Credential{{Name: "app", OAuthClient: &tenant.OAuthClient{ID: "app-1", Secret: "a secret+"}}}
	srv := httptest.NewServer(realServer(t, s))
	defer srv.Close()
	body, err := os.ReadFile(keyRequest)
	if err != nil {
		t.Fatal(err)
	}
	askKeys := func(t *testing.T, client *http.Client) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/speke/v2.0/copyProtection", strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Speke-Version", "2.0")
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(text), "PlainValue") {
			t.Errorf("%d %s %v", res.StatusCode, text, err)
		}
	}
	for name, style := range map[string]oauth2.AuthStyle{"header": oauth2.AuthStyleInHeader, "parameters": oauth2.AuthStyleInParams, "found out": oauth2.AuthStyleAutoDetect} {
		t.Run(name, func(t *testing.T) {
			c := clientcredentials.Config{ClientID: "app-1", ClientSecret: "a secret+", TokenURL: srv.URL + "/oauth/token", AuthStyle: style, Scopes: []string{"kms"}}
			askKeys(t, c.Client(t.Context()))
			c.ClientSecret = "wrong"
			var refused *oauth2.RetrieveError
			if _, err := c.Token(t.Context()); !errors.As(err, &refused) || refused.ErrorCode != "invalid_client" || refused.Response.StatusCode != http.StatusUnauthorized {
				t.Errorf("wrong secret: %v", err)
			}
		})
	}
	t.Run("query and no body, as Insys", func(t *testing.T) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/oauth/token?"+url.Values{"grant_type": {"client_credentials"}, "scope": {"urn:kms"}}.Encode(), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("app-1", "a secret+")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var token oauth2.Token
		if err := json.NewDecoder(res.Body).Decode(&token); err != nil || res.StatusCode != http.StatusOK || res.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %v %v", res.StatusCode, res.Header, err)
		}
		askKeys(t, oauth2.NewClient(t.Context(), oauth2.StaticTokenSource(&token)))
	})
	for _, path := range []string{"/oauth/jwks", "/.well-known/jwks.json"} {
		res, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var set jose.JSONWebKeySet
		if err := json.NewDecoder(res.Body).Decode(&set); err != nil || len(set.Keys) != 1 || !set.Keys[0].IsPublic() {
			t.Errorf("%s: %+v, %v", path, set, err)
		}
	}
}

// TestNoOAuth: without clients there is no token endpoint.
func TestNoOAuth(t *testing.T) {
	s := realServer(t, exampleTenant())
	for path, method := range map[string]string{"/oauth/token": http.MethodPost, "/oauth/jwks": http.MethodGet, "/.well-known/jwks.json": http.MethodGet} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// TestTokensAreRecorded: a token that opens keys is on record before it is
// there, and so is a refusal; neither record has the token or the secret.
func TestTokensAreRecorded(t *testing.T) {
	s := exampleTenant()
	s.Credentials = []tenant.Credential{{Name: "app", OAuthClient: &tenant.OAuthClient{ID: "app-1", Secret: "a-secret"}}}
	dir := t.TempDir()
	h := newServer(t, s, nil, serverOptions{random: zeros{}, now: time.Now, recorder: openAudit(t, dir)})
	ask := func(secret string) (status int, token string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/oauth/token", strings.NewReader("grant_type=client_credentials"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("app-1", secret)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var answer struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		return w.Code, answer.AccessToken
	}
	_, token := ask("a-secret")
	if status, _ := ask("not-the-one"); status != http.StatusUnauthorized || token == "" {
		t.Fatal(status, token)
	}
	var got []string
	err := (&audit.Query{}).Run(dir, func(line []byte, r *audit.Record) error {
		if r.Event == audit.TokenIssue {
			got = append(got, fmt.Sprintf("%s %d %s/%s", r.Result, r.Status, r.Tenant, r.Credential))
		}
		if text := string(line); strings.Contains(text, token) || strings.Contains(text, "a-secret") || strings.Contains(text, "not-the-one") {
			t.Errorf("a record tells %s", text)
		}
		return nil
	})
	if want := []string{"delivered 0 " + s.ID + "/app", "refused 401 /"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}
