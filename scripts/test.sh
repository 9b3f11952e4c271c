#!/bin/sh
# Runs every test: all packages with the race detector, what needs cgo, the
# cloud providers' own SDKs against our test servers, and a little fuzzing.
set -eu
go test -race -timeout 15m ./...
CGO_ENABLED=1 go test -tags pkcs11 ./internal/kms/pkcs11 ./cmd/spekeasy
(cd internal/kms/sdktest && go test ./...)
./scripts/fuzz.sh 3s
