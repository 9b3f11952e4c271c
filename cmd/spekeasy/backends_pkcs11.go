//go:build pkcs11

package main

import (
	"context"
	"net/url"

	"spekeasy/internal/app"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/pkcs11"
)

// openPKCS11 opens a KEK in an HSM; it needs cgo.
var openPKCS11 = func(e *env) app.OpenKeyManager {
	return func(ctx context.Context, u *url.URL, _ bool) (keystore.KeyManager, error) {
		return pkcs11.Open(ctx, u, pkcs11.Options{Getenv: e.getenv})
	}
}
