package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"spekeasy/adminapi"
)

func newCredential(e *env) *cobra.Command {
	f := &clientFlags{}
	cmd := &cobra.Command{
		Use: "credential", Short: "Manage the credentials that encryptors get in with",
		Long: "Manage the credentials of a server's tenants, which encryptors and others get in with." + clientHelp,
	}
	f.add(cmd)
	list := &cobra.Command{
		Use: "list TENANT", Short: "List credentials and when they end", Args: cobra.ExactArgs(1), ValidArgsFunction: f.completeTenants(e),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			return printAll(f, e, func(p adminapi.PageRequest) (*adminapi.Page[adminapi.CredentialInfo], error) {
				return c.Credentials(ctx, args[0], p)
			}, []string{"CREDENTIAL", "KIND", "ORIGIN", "STATE", "EXPIRES", "DAYS LEFT"}, func(c *adminapi.CredentialInfo) []string {
				return []string{c.Name, c.Kind, c.Origin, c.State, orDash(c.Expires), days(c.DaysLeft)}
			})
		}),
	}
	show := &cobra.Command{
		Use: "show TENANT NAME", Short: "Print a credential, without its secret", Args: cobra.ExactArgs(2), ValidArgsFunction: f.completeTenants(e),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			info, err := c.Credential(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			return printCredential(f, e, info)
		}),
	}
	cmd.AddCommand(list, show, newCredentialCreate(e, f), newCredentialRotate(e, f), newCredentialExpire(e, f), newCredentialRevoke(e, f))
	return cmd
}

func printCredential(f *clientFlags, e *env, c *adminapi.CredentialInfo) error {
	return f.print(e, c, func(t *table) {
		t.row("credential", c.Name)
		t.row("kind", c.Kind)
		t.row("state", c.State)
		t.row("origin", c.Origin)
		switch {
		case c.Basic != nil:
			t.row("user", c.Basic.User)
		case c.Digest != nil:
			t.row("user", c.Digest.User)
		case c.OAuthClient != nil:
			t.row("client ID", c.OAuthClient.ID)
		case c.APIKey != nil:
			t.row("header", orDefault(c.APIKey.Header, "x-api-key"))
		case c.Token != nil:
			t.row("parameter", orDefault(c.Token.Parameter, "enc-token"))
		case c.SigV4 != nil:
			t.row("access key ID", c.SigV4.AccessKeyID)
			t.row("regions", strings.Join(c.SigV4.Regions, ", "))
		case c.MTLS != nil:
			t.row("certificate", c.MTLS.SHA256+c.MTLS.Subject)
		case c.DeliveryCertificate != nil:
			t.row("certificate", c.DeliveryCertificate.SHA256)
		case c.IAM != nil:
			t.row("ARNs", strings.Join(c.IAM.ARNs, ", "))
		case c.JWT != nil:
			t.row("issuer", c.JWT.Issuer)
		case c.WidevineSigner != nil:
			t.row("signer", c.WidevineSigner.Name)
			if s := c.WidevineSigner; s.AESKey != "" {
				t.row("AES key", string(s.AESKey))
				t.row("AES IV", string(s.AESIV))
				t.row("", "shown this once; keep them now")
			}
		}
		t.row("not before", orDash(c.NotBefore))
		t.row("expires", orDash(c.Expires))
		t.row("days left", days(c.DaysLeft))
		if s := c.Secret(); s != "" {
			t.row("secret", string(s))
			t.row("", "shown this once; keep it now")
		}
	})
}

func orDefault(s, value string) string {
	if s == "" {
		return value
	}
	return s
}

// credentialFlags describe a credential.
type credentialFlags struct {
	kind, user, header, parameter, clientID, sha256, subject string
	issuer, jwks, audience, secretFile, notBefore, expires   string
	regions, arns, roles                                     []string
	rfc2069                                                  bool
}

func newCredentialCreate(e *env, f *clientFlags) *cobra.Command {
	var o credentialFlags
	cmd := &cobra.Command{
		Use: "create TENANT NAME --kind KIND", Short: "Make a credential; its secret is shown this once", Args: cobra.ExactArgs(2),
		ValidArgsFunction: f.completeTenants(e),
		Long: "Make a credential of a tenant. The server makes up its secret and shows it this once, unless\n" +
			"--secret-file has one. Kinds: basic, api_key, token, digest, oauth_client, sigv4, jwt, mtls,\n" +
			"delivery_certificate, iam, widevine_signer.",
		Example: "  spekeasy credential create acme mediapackage --kind basic\n" +
			"  spekeasy credential create acme encoder --kind api_key --header keyos-userkey --expires 2027-01-31\n" +
			"  spekeasy credential create acme gateway --kind sigv4 --region eu-west-1",
	}
	fl := cmd.Flags()
	fl.StringVar(&o.kind, "kind", "", "`kind` of the credential, one of the above")
	fl.StringVar(&o.user, "user", "", "`name` of the user of basic and digest and of the signer of widevine_signer; by default the tenant's ID")
	fl.StringVar(&o.header, "header", "", "`name` of the header of api_key")
	fl.StringVar(&o.parameter, "parameter", "", "`name` of the query parameter of token")
	fl.StringVar(&o.clientID, "client-id", "", "client `ID` of oauth_client; by default the tenant's ID")
	fl.StringVar(&o.sha256, "sha256", "", "SHA-256 `fingerprint` of the certificate of mtls and delivery_certificate")
	fl.StringVar(&o.subject, "subject", "", "`subject` of the certificate of mtls")
	fl.StringVar(&o.issuer, "issuer", "", "`issuer` of jwt")
	fl.StringVar(&o.jwks, "jwks-url", "", "`URL` of the issuer's keys")
	fl.StringVar(&o.audience, "audience", "", "`audience` of jwt")
	fl.StringArrayVar(&o.regions, "region", nil, "`region` of sigv4 (repeatable)")
	fl.StringArrayVar(&o.arns, "arn", nil, "`ARN` of iam (repeatable)")
	fl.StringSliceVar(&o.roles, "role", nil, "`role`, what it may be used for: encryptor, entitlement (default encryptor; repeatable)")
	fl.BoolVar(&o.rfc2069, "rfc2069", false, "digest: allow clients without qop")
	fl.StringVar(&o.secretFile, "secret-file", "", "`file` with the secret in its first line")
	fl.StringVar(&o.notBefore, "not-before", "", "`time` from which it is good: a date or RFC 3339; by default now")
	fl.StringVar(&o.expires, "expires", "", "`time` at which it ends: a date or RFC 3339; by default never")
	_ = cmd.MarkFlagRequired("kind") // it exists
	cmd.RunE = f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
		cred, err := o.credential(args[1])
		if err != nil {
			return err
		}
		info, err := c.CreateCredential(ctx, args[0], *cred)
		if err != nil {
			return err
		}
		return printCredential(f, e, info)
	})
	return cmd
}

func (o *credentialFlags) credential(name string) (*adminapi.Credential, error) {
	c := &adminapi.Credential{Name: name, NotBefore: o.notBefore, Expires: o.expires, Roles: o.roles}
	switch o.kind {
	case "basic":
		c.Basic = &adminapi.Basic{User: o.user}
	case "api_key":
		c.APIKey = &adminapi.APIKey{Header: o.header}
	case "token":
		c.Token = &adminapi.Token{Parameter: o.parameter}
	case "digest":
		c.Digest = &adminapi.Digest{User: o.user, RFC2069: o.rfc2069}
	case "oauth_client":
		c.OAuthClient = &adminapi.OAuthClient{ID: o.clientID}
	case "sigv4":
		c.SigV4 = &adminapi.SigV4{Regions: append([]string{}, o.regions...)}
	case "widevine_signer":
		c.WidevineSigner = &adminapi.WidevineSigner{Name: o.user}
	case "jwt":
		c.JWT = &adminapi.JWT{Issuer: o.issuer, JWKS: o.jwks, Audience: o.audience}
	case "mtls":
		c.MTLS = &adminapi.MTLS{SHA256: o.sha256, Subject: o.subject}
	case "delivery_certificate":
		c.DeliveryCertificate = &adminapi.DeliveryCertificate{SHA256: o.sha256}
	case "iam":
		c.IAM = &adminapi.IAM{ARNs: append([]string{}, o.arns...)}
	default:
		return nil, fmt.Errorf("--kind: %q is not a kind of credential", o.kind)
	}
	if o.secretFile != "" {
		secret, err := readSecretFile(o.secretFile)
		if err != nil {
			return nil, fmt.Errorf("--secret-file: %w", err)
		}
		if c.SetSecret(adminapi.Secret(secret)); c.Secret() == "" {
			return nil, errors.New("--secret-file: this kind of credential has no secret")
		}
	}
	return c, nil
}

func newCredentialRotate(e *env, f *clientFlags) *cobra.Command {
	var r adminapi.Rotation
	cmd := &cobra.Command{
		Use: "rotate TENANT NAME", Short: "Make a new secret beside the present one, which ends after a while", Args: cobra.ExactArgs(2),
		Example:           "  spekeasy credential rotate acme mediapackage --overlap 72h",
		ValidArgsFunction: f.completeTenants(e),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			info, err := c.RotateCredential(ctx, args[0], args[1], r)
			if err != nil {
				return err
			}
			return printCredential(f, e, info)
		}),
	}
	cmd.Flags().StringVar(&r.Overlap, "overlap", "", "`duration` for which the present one goes on, such as 72h or 14d (default 14d)")
	cmd.Flags().StringVar(&r.Name, "name", "", "`name` of the new credential")
	cmd.Flags().StringVar(&r.Expires, "expires", "", "`time` at which the new one ends: a date or RFC 3339; by default never")
	return cmd
}

func newCredentialExpire(e *env, f *clientFlags) *cobra.Command {
	var v adminapi.Validity
	cmd := &cobra.Command{
		Use: "expire TENANT NAME [--at TIME]", Short: "Set when a credential ends; never without a time", Args: cobra.ExactArgs(2),
		ValidArgsFunction: f.completeTenants(e),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			now, err := c.Credential(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			v.NotBefore = now.NotBefore
			info, err := c.UpdateCredential(ctx, args[0], args[1], now.Version, v)
			if err != nil {
				return err
			}
			return printCredential(f, e, info)
		}),
	}
	cmd.Flags().StringVar(&v.Expires, "at", "", "`time` at which it ends: a date or RFC 3339; by default never")
	return cmd
}

func newCredentialRevoke(e *env, f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "revoke TENANT NAME", Short: "End a credential at once and for ever", Args: cobra.ExactArgs(2), ValidArgsFunction: f.completeTenants(e),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			if err := c.RevokeCredential(ctx, args[0], args[1], 0); err != nil {
				return err
			}
			_, err := fmt.Fprintf(e.stdout, "credential %s of tenant %s revoked\n", args[1], args[0])
			return err
		}),
	}
}
