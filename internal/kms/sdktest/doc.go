// Package sdktest shows that the test servers of the key managers speak the
// real protocols: the published clients of AWS, Google, Azure, HashiCorp and
// OpenBao work with them, and open what the managers here have wrapped and
// the other way round. It is a module of its own, so that those clients stay
// out of the dependencies of the program.
package sdktest
