//go:build !pkcs11

package main

import "spekeasy/internal/app"

// openPKCS11 is nil in a binary that was built without the tag pkcs11.
var openPKCS11 func(*env) app.OpenKeyManager
