// Package sdktest holds the examples for AWS media services against the types
// and checks of Amazon's own SDK. It is a module of its own, so that the key
// server does not depend on them.
package sdktest
