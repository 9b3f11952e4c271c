package sdktest

import (
	"encoding/base64"
	"errors"
	"hash/crc32"
	"os"
	"testing"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/cloudkms/v1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"spekeasy/internal/kms/gcpkms"
	"spekeasy/internal/kms/gcpkms/gcpkmstest"
)

func TestGCP(t *testing.T) {
	s := gcpkmstest.New(t)
	name := s.CreateKey("kek")
	file := s.CredentialsFile(t, nil)
	ours, err := gcpkms.Open(t.Context(), parse(t, "gcpkms://"+name+"?endpoint="+s.URL+"&credentials_file="+file), gcpkms.Options{})
	if err != nil {
		t.Fatal(err)
	}

	// Google's own code signs the assertion and asks for the token.
	account, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	jwt, err := google.JWTConfigFromJSON(account, "https://www.googleapis.com/auth/cloudkms")
	if err != nil {
		t.Fatal(err)
	}
	client := oauth2.NewClient(t.Context(), jwt.TokenSource(t.Context()))
	sdk, err := cloudkms.NewService(t.Context(), option.WithEndpoint(s.URL+"/"), option.WithHTTPClient(client))
	if err != nil {
		t.Fatal(err)
	}
	keys := sdk.Projects.Locations.KeyRings.CryptoKeys
	aad := []byte("tenant\x00purpose")
	b64 := base64.StdEncoding.EncodeToString
	crc := func(b []byte) int64 { return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))) }

	wrapped, err := ours.Wrap(t.Context(), []byte("ours"), aad)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := keys.Decrypt(name, &cloudkms.DecryptRequest{Ciphertext: b64(wrapped), AdditionalAuthenticatedData: b64(aad), CiphertextCrc32c: crc(wrapped)}).Do()
	if err != nil || opened.Plaintext != b64([]byte("ours")) || opened.PlaintextCrc32c != crc([]byte("ours")) || !opened.UsedPrimary {
		t.Errorf("client library opens ours: %+v, %v", opened, err)
	}

	theirs, err := keys.Encrypt(name, &cloudkms.EncryptRequest{Plaintext: b64([]byte("theirs")), PlaintextCrc32c: crc([]byte("theirs")), AdditionalAuthenticatedData: b64(aad), AdditionalAuthenticatedDataCrc32c: crc(aad)}).Do()
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := base64.StdEncoding.DecodeString(theirs.Ciphertext)
	if err != nil || theirs.Name != name+"/cryptoKeyVersions/1" || !theirs.VerifiedPlaintextCrc32c || !theirs.VerifiedAdditionalAuthenticatedDataCrc32c || theirs.CiphertextCrc32c != crc(ciphertext) {
		t.Errorf("answer to the client library: %+v, %v", theirs, err)
	}
	if got, err := ours.Unwrap(t.Context(), ours.KeyID(), ciphertext, aad); err != nil || string(got) != "theirs" {
		t.Errorf("we open the client library's: %q, %v", got, err)
	}

	status := func(err error) int {
		e, ok := errors.AsType[*googleapi.Error](err)
		if !ok {
			t.Errorf("not an error of the API: %v", err)
			return 0
		}
		return e.Code
	}
	_, err = keys.Decrypt(name, &cloudkms.DecryptRequest{Ciphertext: b64(wrapped)}).Do()
	if status(err) != 400 {
		t.Errorf("no associated data: %v", err)
	}
	_, err = keys.Encrypt(name, &cloudkms.EncryptRequest{Plaintext: b64([]byte("x")), PlaintextCrc32c: 1}).Do()
	if status(err) != 400 {
		t.Errorf("wrong checksum: %v", err)
	}
	_, err = keys.Encrypt(name+"x", &cloudkms.EncryptRequest{Plaintext: b64([]byte("x"))}).Do()
	if status(err) != 404 {
		t.Errorf("no such key: %v", err)
	}
	s.Deny()
	_, err = keys.Encrypt(name, &cloudkms.EncryptRequest{Plaintext: b64([]byte("x"))}).Do()
	if status(err) != 403 {
		t.Errorf("no permission: %v", err)
	}
}
