package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"spekeasy/internal/kms/awskms/awskmstest"
	"spekeasy/internal/testserver"
)

const (
	region    = "eu-west-1"
	secretARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:keys/encoder-AbCdEf"
)

// account is what a function finds in AWS: a table as CloudFormation makes it,
// a KMS key, a secret.
type account struct {
	env     map[string]string
	secrets *secretsServer
}

func newAccount(t *testing.T) *account {
	t.Helper()
	db, err := testserver.NewDynamoDB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Stop(); err != nil {
			t.Error(err)
		}
	})
	kms := awskmstest.New(t, region)
	endpoint := "http://" + db.Addr
	client := dynamodb.New(dynamodb.Options{Region: region, BaseEndpoint: &endpoint,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return kms.Caller, nil })})
	_, err = client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("keys"), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("pk"), AttributeType: types.ScalarAttributeTypeS}, {AttributeName: aws.String("sk"), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("pk"), KeyType: types.KeyTypeHash}, {AttributeName: aws.String("sk"), KeyType: types.KeyTypeRange},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &secretsServer{caller: kms.Caller, text: `{"user":"acme","password":"swordfish-1"}`}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	for name, value := range map[string]string{ // the SDK reads them from the process
		"AWS_ACCESS_KEY_ID": kms.Caller.AccessKeyID, "AWS_SECRET_ACCESS_KEY": kms.Caller.SecretAccessKey, "AWS_SESSION_TOKEN": kms.Caller.SessionToken,
		"AWS_REGION": region, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	return &account{secrets: s, env: map[string]string{
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": srv.URL,
		"SPEKEASY_CONFIG": `
data: ` + t.TempDir() + `
store: dynamodb://keys?region=` + region + `&endpoint=` + endpoint + `
key_manager: awskms:///` + kms.CreateKey() + `?endpoint=` + kms.URL + `
audit: {stdout: only}
log: {level: debug, format: json}
tenants:
- id: acme
  credentials:
  - name: media-services
    iam: {arns: ["arn:aws:iam::111122223333:role/drm-MediaPackageV2Role-1ABC", "arn:aws:iam::111122223333:role/MediaConvert", "arn:aws:iam::111122223333:user/encoder"]}
  - name: encoder
    basic: {user: "${secretsmanager:` + secretARN + `#user}", password: "${secretsmanager:` + secretARN + `#password}"}
`,
	}}
}

// list is the environment as processes take it.
func (a *account) list() (env []string) {
	for name, value := range a.env {
		env = append(env, name+"="+value)
	}
	return env
}

func (a *account) lookup(name string) (string, bool) {
	v, ok := a.env[name]
	return v, ok
}

// secretsServer is a Secrets Manager with one secret, for one caller.
type secretsServer struct {
	caller aws.Credentials

	mu      sync.Mutex
	text    string
	version int
	asked   int
	away    bool
}

// set rotates the secret.
func (s *secretsServer) set(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
	s.version++
}

func (s *secretsServer) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *secretsServer) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *secretsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	body, err := io.ReadAll(r.Body)
	var in struct{ SecretId string }
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]string{"__type": code, "Message": "no"})
	}
	switch {
	case s.away:
		refuse(http.StatusInternalServerError, "InternalServiceError")
	case err != nil || json.Unmarshal(body, &in) != nil || r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue":
		refuse(http.StatusBadRequest, "SerializationException")
	case !s.signed(r, body):
		refuse(http.StatusBadRequest, "InvalidSignatureException")
	case in.SecretId != secretARN:
		refuse(http.StatusBadRequest, "com.amazonaws.secretsmanager#ResourceNotFoundException")
	default:
		json.NewEncoder(w).Encode(map[string]string{"ARN": secretARN, "SecretString": s.text, "VersionId": strings.Repeat("v", s.version+1)})
	}
}

// signed holds a request against what the SDK's signer makes of it.
func (s *secretsServer) signed(r *http.Request, body []byte) bool {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return false
	}
	again, err := http.NewRequest(r.Method, "http://"+r.Host+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return false
	}
	for _, name := range []string{"Content-Type", "X-Amz-Target"} {
		again.Header.Set(name, r.Header.Get(name))
	}
	hash := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(r.Context(), s.caller, again, hex.EncodeToString(hash[:]), "secretsmanager", region, at)
	return err == nil && again.Header.Get("Authorization") == r.Header.Get("Authorization")
}

// event is an event of a REST API with IAM authorization, or with HTTP Basic
// where a password is given.
func event(t *testing.T, document []byte, password string) string {
	t.Helper()
	identity := map[string]any{"sourceIp": "198.51.100.7"}
	header := map[string][]string{"content-type": {"application/xml"}, "x-speke-version": {"2.0"}}
	if password == "" {
		identity["userArn"] = "arn:aws:sts::111122223333:assumed-role/drm-MediaPackageV2Role-1ABC/MediaPackageV2"
	} else {
		r, err := http.NewRequest(http.MethodPost, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("acme", password)
		header["authorization"] = []string{r.Header.Get("Authorization")}
	}
	b, err := json.Marshal(map[string]any{
		"resource": "/{proxy+}", "path": "/speke/v2.0/copyProtection", "httpMethod": "POST", "multiValueHeaders": header,
		"pathParameters": map[string]string{"proxy": "speke/v2.0/copyProtection"},
		"requestContext": map[string]any{"stage": "LATEST", "path": "/LATEST/speke/v2.0/copyProtection", "requestId": rand.Text(), "identity": identity},
		"body":           document, "isBase64Encoded": true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// recordedEvent is an event as AWS sends it, with another body.
func recordedEvent(t *testing.T, name string, document []byte) string {
	t.Helper()
	text, err := os.ReadFile("../../internal/lambdahttp/testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var e map[string]any
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	e["body"], e["isBase64Encoded"] = document, true
	for _, name := range []string{"headers", "multiValueHeaders"} {
		if h, ok := e[name].(map[string]any); ok {
			for _, version := range []string{"x-speke-version", "X-Speke-Version"} {
				delete(h, version)
			}
			h["x-speke-version"] = map[string]any{"headers": "2.0", "multiValueHeaders": []string{"2.0"}}[name]
		}
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
