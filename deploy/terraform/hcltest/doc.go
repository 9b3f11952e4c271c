// Package hcltest parses the Terraform module and holds it against the
// CloudFormation template that it deploys. It is a module of its own, so that
// the key server does not depend on HashiCorp's parser.
package hcltest
