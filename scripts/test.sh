#!/bin/sh
# Runs every test: all packages with the race detector, what needs cgo, the
# cloud providers' own SDKs against our test servers, and a little fuzzing.
# The tests of the command line and of backups move whole databases many times
# over, those in e2e wait for packagers, and releases are packed again and
# again; with the race detector they would take most of the time and find
# nothing that the packages' own tests do not.
set -eu
# shellcheck disable=SC2046 # a list of packages
go test -race -timeout 15m $(go list ./... | grep -v -e '/cmd/' -e '/e2e/' -e '/internal/backup$' -e '/internal/demo' -e '/internal/release$')
go test -timeout 10m ./cmd/... ./e2e/... ./internal/backup ./internal/release
go test -timeout 10m ./internal/demo/... # by itself: browsers want the machine
go vet -tags man ./cmd/spekeasy
go test -tags man -run '^TestMan$' ./cmd/spekeasy
CGO_ENABLED=1 go vet -tags pkcs11 ./cmd/spekeasy
CGO_ENABLED=1 go test -tags pkcs11 ./internal/kms/pkcs11
(cd internal/kms/sdktest && go test ./...)
(cd deploy/tools && go vet ./... && go test ./...)
(cd examples/aws/sdktest && go test ./...)
(cd deploy/terraform/hcltest && go test ./...)
./scripts/fuzz.sh 1000x # a number of runs: the end of a time can be taken for a failure
