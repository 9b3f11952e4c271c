package sdktest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/mediaconvert"
	"github.com/aws/aws-sdk-go-v2/service/mediapackage"
	"github.com/aws/aws-sdk-go-v2/service/mediapackagev2"
	"github.com/aws/aws-sdk-go-v2/service/mediapackagevod"
)

// sent takes what the SDK sends.
type sent struct{ body []byte }

func (s *sent) Do(r *http.Request) (*http.Response, error) {
	var err error
	if r.Body != nil {
		s.body, err = io.ReadAll(r.Body)
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))}, err
}

// input returns the type of a file's content and the call that takes it,
// which makes the SDK look for required members and write the request.
func input(name string, s *sent) (any, func(context.Context, any) error) {
	credentials := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
	})
	const region = "eu-west-1"
	switch {
	case strings.HasPrefix(name, "mediaconvert-"):
		c := mediaconvert.New(mediaconvert.Options{Region: region, Credentials: credentials, HTTPClient: s})
		return new(mediaconvert.CreateJobInput), func(ctx context.Context, v any) error {
			_, err := c.CreateJob(ctx, v.(*mediaconvert.CreateJobInput))
			return err
		}
	case strings.HasPrefix(name, "mediapackage-v1-"):
		c := mediapackage.New(mediapackage.Options{Region: region, Credentials: credentials, HTTPClient: s})
		return new(mediapackage.CreateOriginEndpointInput), func(ctx context.Context, v any) error {
			_, err := c.CreateOriginEndpoint(ctx, v.(*mediapackage.CreateOriginEndpointInput))
			return err
		}
	case strings.HasPrefix(name, "mediapackage-v2-"):
		c := mediapackagev2.New(mediapackagev2.Options{Region: region, Credentials: credentials, HTTPClient: s})
		return new(mediapackagev2.CreateOriginEndpointInput), func(ctx context.Context, v any) error {
			_, err := c.CreateOriginEndpoint(ctx, v.(*mediapackagev2.CreateOriginEndpointInput))
			return err
		}
	case strings.HasPrefix(name, "mediapackage-vod-"):
		c := mediapackagevod.New(mediapackagevod.Options{Region: region, Credentials: credentials, HTTPClient: s})
		switch name {
		case "mediapackage-vod-group.json":
			return new(mediapackagevod.CreatePackagingGroupInput), func(ctx context.Context, v any) error {
				_, err := c.CreatePackagingGroup(ctx, v.(*mediapackagevod.CreatePackagingGroupInput))
				return err
			}
		case "mediapackage-vod-asset.json":
			return new(mediapackagevod.CreateAssetInput), func(ctx context.Context, v any) error {
				_, err := c.CreateAsset(ctx, v.(*mediapackagevod.CreateAssetInput))
				return err
			}
		}
		return new(mediapackagevod.CreatePackagingConfigurationInput), func(ctx context.Context, v any) error {
			_, err := c.CreatePackagingConfiguration(ctx, v.(*mediapackagevod.CreatePackagingConfigurationInput))
			return err
		}
	}
	return nil, nil
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../*.json")
	if err != nil || len(files) < 15 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var s sent
			v, call := input(filepath.Base(file), &s)
			if v == nil {
				t.Fatal("no service has such a file")
			}
			d := json.NewDecoder(bytes.NewReader(text))
			d.DisallowUnknownFields()
			if err := d.Decode(v); err != nil {
				t.Fatal(err)
			}
			enums(t, "", reflect.ValueOf(v))
			if err := call(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			for _, url := range []string{"/LATEST/", "arn:aws:iam::111122223333:role/"} {
				if strings.Contains(string(text), url) && !bytes.Contains(s.body, []byte(url)) {
					t.Errorf("%s is not in what is sent: %s", url, s.body)
				}
			}
			speke(t, string(text))
		})
	}
}

// enums wants values that the SDK lists.
func enums(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			enums(t, path, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				enums(t, path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			enums(t, path, v.Index(i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			enums(t, path+"."+k.String(), v.MapIndex(k))
		}
	case reflect.String:
		values := v.MethodByName("Values")
		if !values.IsValid() || v.Len() == 0 {
			return
		}
		list := values.Call(nil)[0]
		for i := range list.Len() {
			if list.Index(i).String() == v.String() {
				return
			}
		}
		t.Errorf("%s: %q is none of %v", path, v, list)
	}
}

// speke holds what the services say of SPEKE and the SDK does not know.
func speke(t *testing.T, text string) {
	t.Helper()
	var v struct {
		CmafPackage, DashPackage struct {
			Encryption struct {
				KeyRotationIntervalSeconds *int
				SpekeKeyProvider           struct{ EncryptionContractConfiguration *struct{} }
			}
		}
		Segment struct {
			Encryption struct{ KeyRotationIntervalSeconds *int }
		}
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	if e := v.CmafPackage.Encryption; e.SpekeKeyProvider.EncryptionContractConfiguration != nil && (e.KeyRotationIntervalSeconds == nil || *e.KeyRotationIntervalSeconds != 0) {
		t.Error("MediaPackage v1 takes an encryption contract only with rotation off (0)")
	}
	if s := v.Segment.Encryption.KeyRotationIntervalSeconds; s != nil && *s < 300 {
		t.Error("MediaPackage v2 rotates every 300 s at most")
	}
	if strings.Contains(text, "EncryptionContractConfiguration") != strings.Contains(text, "/speke/v2.0/") {
		t.Error("an encryption contract means SPEKE 2.0, and so its URL")
	}
}
