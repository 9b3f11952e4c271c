package sdktest

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsservice "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"spekeasy/internal/kms/awskms"
	"spekeasy/internal/kms/awskms/awskmstest"
)

func parse(t *testing.T, raw string) *url.URL {
	t.Helper()
	uri, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

func TestAWS(t *testing.T) {
	s := awskmstest.New(t, "eu-west-1")
	arn, other := s.CreateKey(), s.CreateKey()
	credentials := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return s.Caller, nil })
	sdk := awsservice.New(awsservice.Options{Region: s.Region, BaseEndpoint: &s.URL, Credentials: credentials, RetryMaxAttempts: 1})
	ours, err := awskms.Open(t.Context(), parse(t, "awskms:///"+arn+"?endpoint="+s.URL), awskms.Options{Credentials: credentials})
	if err != nil {
		t.Fatal(err)
	}
	aad := []byte("tenant\x00purpose")
	ec := map[string]string{"spekeasy": base64.StdEncoding.EncodeToString(aad)}

	wrapped, err := ours.Wrap(t.Context(), []byte("ours"), aad)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := sdk.Decrypt(t.Context(), &awsservice.DecryptInput{KeyId: &arn, CiphertextBlob: wrapped, EncryptionContext: ec})
	if err != nil || string(opened.Plaintext) != "ours" || *opened.KeyId != arn {
		t.Errorf("SDK opens ours: %+v, %v", opened, err)
	}

	theirs, err := sdk.Encrypt(t.Context(), &awsservice.EncryptInput{KeyId: &arn, Plaintext: []byte("theirs"), EncryptionContext: ec})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ours.Unwrap(t.Context(), ours.KeyID(), theirs.CiphertextBlob, aad); err != nil || string(got) != "theirs" {
		t.Errorf("we open the SDK's: %q, %v", got, err)
	}

	_, err = sdk.Decrypt(t.Context(), &awsservice.DecryptInput{KeyId: &arn, CiphertextBlob: wrapped})
	if _, ok := errors.AsType[*types.InvalidCiphertextException](err); !ok {
		t.Errorf("no encryption context: %v", err)
	}
	_, err = sdk.Decrypt(t.Context(), &awsservice.DecryptInput{KeyId: &other, CiphertextBlob: wrapped, EncryptionContext: ec})
	if _, ok := errors.AsType[*types.IncorrectKeyException](err); !ok {
		t.Errorf("another key: %v", err)
	}
	s.SetState(arn, "Disabled")
	_, err = sdk.Decrypt(t.Context(), &awsservice.DecryptInput{CiphertextBlob: wrapped, EncryptionContext: ec})
	if _, ok := errors.AsType[*types.DisabledException](err); !ok {
		t.Errorf("disabled: %v", err)
	}
	s.SetState(arn, "PendingDeletion")
	_, err = sdk.Encrypt(t.Context(), &awsservice.EncryptInput{KeyId: &arn, Plaintext: []byte("x")})
	if _, ok := errors.AsType[*types.KMSInvalidStateException](err); !ok {
		t.Errorf("pending deletion: %v", err)
	}
	s.Caller.SecretAccessKey += "x"
	wrong := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		c := s.Caller
		c.SecretAccessKey = "wrong"
		return c, nil
	})
	sdk = awsservice.New(awsservice.Options{Region: s.Region, BaseEndpoint: &s.URL, Credentials: wrong, RetryMaxAttempts: 1})
	_, err = sdk.Encrypt(t.Context(), &awsservice.EncryptInput{KeyId: &other, Plaintext: []byte("x")})
	var coded interface{ ErrorCode() string }
	if !errors.As(err, &coded) || coded.ErrorCode() != "InvalidSignatureException" {
		t.Errorf("wrong secret: %v", err)
	}
}
