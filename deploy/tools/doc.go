// Package tools makes and checks what is deployed, with tools that would
// weigh down the server: Helm, Kubernetes' types, Prometheus' parsers,
// OpenTelemetry's messages and nfpm. It is a module of its own, so that they
// stay out of the dependencies of the program.
package tools
