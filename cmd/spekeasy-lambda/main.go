// Command spekeasy-lambda is the key server as an AWS Lambda function, behind
// API Gateway, a function URL or an Application Load Balancer. It reads the
// same configuration as the server, and answers by the same handler.
//
//	SPEKEASY_CONFIG       the configuration, YAML; may be one reference to a secret
//	SPEKEASY_CONFIG_FILE  or a file that holds it, of the package or of a layer
//	SPEKEASY_BASE_PATH    prefix of paths that is not ours, as in /drm/{proxy+}
//
// Beside ${NAME} and ${file:PATH} the configuration may have references
// ${secretsmanager:ARN} and ${secretsmanager:ARN#FIELD}.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"spekeasy/internal/lambdahttp"
)

// version is set by the release build.
var version = "devel"

func main() {
	if err := run(context.Background(), os.LookupEnv, os.Stdout, os.Stderr); err != nil {
		slog.New(slog.NewJSONHandler(os.Stderr, nil)).Error("start", "error", err)
		os.Exit(1)
	}
}

// run serves invocations until the process ends; it returns only when it
// cannot begin to.
func run(ctx context.Context, lookup func(string) (string, bool), stdout, stderr io.Writer) error {
	f := newFunction(lookup, stdout, stderr, time.Now)
	if err := f.load(ctx); err != nil {
		return err
	}
	base, _ := lookup("SPEKEASY_BASE_PATH")
	h := lambdahttp.New(f, lambdahttp.Options{BasePath: base, Log: f.log})
	lambda.StartWithOptions(h, lambda.WithContext(ctx), lambda.WithEnableSIGTERM(func() {
		f.end()
		os.Exit(0)
	}))
	return nil
}
