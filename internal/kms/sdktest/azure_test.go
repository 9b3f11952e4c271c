package sdktest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/http"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"spekeasy/internal/kms/azurekeyvault"
	"spekeasy/internal/kms/azurekeyvault/azurekeyvaulttest"
)

// azureClient is Azure's client with Azure's own way to a token: it asks
// without one, reads the challenge, and logs in where that says.
func azureClient(t *testing.T, s *azurekeyvaulttest.Server) *azkeys.Client {
	t.Helper()
	options := policy.ClientOptions{Transport: &http.Client{Transport: s.Transport()}, Retry: policy.RetryOptions{MaxRetries: -1}}
	credential, err := azidentity.NewClientSecretCredential(azurekeyvaulttest.Tenant, azurekeyvaulttest.Client, s.Secret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: options, DisableInstanceDiscovery: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := azkeys.NewClient("https://"+s.Host, credential, &azkeys.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func azureManager(t *testing.T, s *azurekeyvaulttest.Server, path string) *azurekeyvault.Manager {
	t.Helper()
	env := map[string]string{"AZURE_TENANT_ID": azurekeyvaulttest.Tenant, "AZURE_CLIENT_ID": azurekeyvaulttest.Client, "AZURE_CLIENT_SECRET": s.Secret}
	m, err := azurekeyvault.Open(t.Context(), parse(t, "azurekeyvault://"+s.Host+"/keys/"+path), azurekeyvault.Options{
		HTTPClient: &http.Client{Transport: s.Transport()}, Getenv: func(n string) string { return env[n] },
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func ptr[T any](v T) *T { return &v }

func azureCode(t *testing.T, err error) string {
	t.Helper()
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		t.Errorf("not an error of the API: %v", err)
		return ""
	}
	return e.ErrorCode
}

func TestAzureRSA(t *testing.T) {
	s := azurekeyvaulttest.New(t, "films.vault.azure.net")
	s.CreateKey(t, "kek", "RSA")
	sdk := azureClient(t, s)
	key, err := sdk.GetKey(t.Context(), "kek", "", nil)
	if err != nil || key.Key.KID.Name() != "kek" || *key.Key.Kty != azkeys.KeyTypeRSA || !*key.Attributes.Enabled {
		t.Fatalf("GetKey: %+v, %v", key, err)
	}
	version := key.Key.KID.Version()
	for _, v := range []string{"", version} {
		wrapped, err := sdk.WrapKey(t.Context(), "kek", v, azkeys.KeyOperationParameters{Algorithm: ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: []byte("0123456789abcdef")}, nil)
		if err != nil || wrapped.KID.Version() != version {
			t.Fatalf("WrapKey: %+v, %v", wrapped, err)
		}
		opened, err := sdk.UnwrapKey(t.Context(), "kek", v, azkeys.KeyOperationParameters{Algorithm: ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: wrapped.Result}, nil)
		if err != nil || string(opened.Result) != "0123456789abcdef" {
			t.Errorf("UnwrapKey: %+v, %v", opened, err)
		}
	}
	digest := sha256.Sum256([]byte("x"))
	signed, err := sdk.Sign(t.Context(), "kek", version, azkeys.SignParameters{Algorithm: ptr(azkeys.SignatureAlgorithmPS256), Value: digest[:]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		verified, err := sdk.Verify(t.Context(), "kek", version, azkeys.VerifyParameters{Algorithm: ptr(azkeys.SignatureAlgorithmPS256), Digest: digest[:], Signature: signed.Result}, nil)
		if err != nil || *verified.Value != want {
			t.Errorf("Verify: %+v, %v; want %t", verified, err, want)
		}
		digest[0] ^= 1
	}

	// The parts of what we wrap are what Azure's client expects there.
	m := azureManager(t, s, "kek")
	wrapped, err := m.Wrap(t.Context(), []byte("ours"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(wrapped[3:35], []byte(version)) {
		t.Fatalf("version %q, want %q", wrapped[3:35], version)
	}
	opened, err := sdk.UnwrapKey(t.Context(), "kek", version, azkeys.KeyOperationParameters{Algorithm: ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: wrapped[37 : 37+256]}, nil)
	if err != nil || len(opened.Result) != 32 {
		t.Errorf("UnwrapKey of ours: %v", err)
	}

	if _, err := sdk.GetKey(t.Context(), "none", "", nil); azureCode(t, err) != "KeyNotFound" {
		t.Errorf("no such key: %v", err)
	}
	s.Disable("kek")
	_, err = sdk.UnwrapKey(t.Context(), "kek", version, azkeys.KeyOperationParameters{Algorithm: ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: wrapped[37 : 37+256]}, nil)
	if azureCode(t, err) != "Forbidden" {
		t.Errorf("disabled: %v", err)
	}
}

func TestAzureManagedHSM(t *testing.T) {
	s := azurekeyvaulttest.New(t, "films.managedhsm.azure.net")
	s.CreateKey(t, "kek", "oct-HSM")
	sdk := azureClient(t, s)
	m := azureManager(t, s, "kek?algorithm=A256GCM")
	wrapped, err := m.Wrap(t.Context(), []byte("ours"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	version, head, rest := string(wrapped[3:35]), wrapped[:35], wrapped[35:]
	iv, ciphertext, tag := rest[2:14], rest[16:20], rest[22:]
	in := azkeys.KeyOperationParameters{Algorithm: ptr(azkeys.EncryptionAlgorithmA256GCM), Value: ciphertext, IV: iv, AuthenticationTag: tag, AdditionalAuthenticatedData: append(bytes.Clone(head), "aad"...)}
	opened, err := sdk.Decrypt(t.Context(), "kek", version, in, nil)
	if err != nil || string(opened.Result) != "ours" {
		t.Errorf("Decrypt of ours: %+v, %v", opened, err)
	}
	in.AdditionalAuthenticatedData = nil
	if _, err := sdk.Decrypt(t.Context(), "kek", version, in, nil); azureCode(t, err) != "BadParameter" {
		t.Errorf("no associated data: %v", err)
	}
	sealed, err := sdk.Encrypt(t.Context(), "kek", "", azkeys.KeyOperationParameters{Algorithm: ptr(azkeys.EncryptionAlgorithmA256GCM), Value: []byte("theirs"), AdditionalAuthenticatedData: []byte("aad")}, nil)
	if err != nil || len(sealed.IV) != 12 || len(sealed.AuthenticationTag) != 16 || sealed.KID.Version() != version {
		t.Errorf("Encrypt: %+v, %v", sealed, err)
	}
}
