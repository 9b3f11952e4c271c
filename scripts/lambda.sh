#!/bin/sh
# Builds the Lambda function for both processors: bin/spekeasy-lambda-arm64.zip
# and bin/spekeasy-lambda-x86_64.zip.
set -eu
cd "$(dirname "$0")/.."
for arch in arm64 amd64; do
	name=$arch
	[ "$arch" = amd64 ] && name=x86_64
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -tags lambda.norpc -ldflags '-s -w' -o "bin/lambda/$name/bootstrap" ./cmd/spekeasy-lambda
	go run ./internal/lambdazip "bin/lambda/$name/bootstrap" "bin/spekeasy-lambda-$name.zip"
done
