// Package pkcs11 wraps keys with an AES key in a hardware security module
// (HSM), by a PKCS #11 module of its vendor:
//
//	pkcs11:token=films;object=kek?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin
//
// The URI is one of RFC 7512. Path attributes: token or serial, which say
// what holds the key, and object or id, which say which key it is. Query
// attributes: module-path; pin-source, file:PATH or env:NAME; max-sessions,
// 8 by default. A pin-value is refused, since URIs are written to logs.
//
// The package needs cgo; it is empty without the build tag pkcs11.
package pkcs11
