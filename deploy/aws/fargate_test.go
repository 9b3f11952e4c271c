package aws_test

import (
	"regexp"
	"strings"
	"testing"

	"spekeasy/internal/config"
)

var fargateValues = map[string]any{
	"Image": "111122223333.dkr.ecr.eu-west-1.amazonaws.com/spekeasy@sha256:1", "VpcId": "vpc-1", "VpcCidr": "10.0.0.0/16",
	"PrivateSubnetIds": "subnet-1,subnet-2", "LoadBalancerSubnetIds": "subnet-3,subnet-4", "ClientCidr": "10.0.0.0/8",
	"CertificateArn": "arn:aws:acm:eu-west-1:111122223333:certificate/1",
}

func TestFargate(t *testing.T) {
	s := read(t, "fargate.yaml").with(t, fargateValues)
	all := s.resources()
	containers := at(all["Task"], "Properties", "ContainerDefinitions").([]any)
	secrets := map[string]string{}
	var configs []string
	for _, c := range containers {
		for _, e := range at(c, "Secrets").([]any) {
			secrets[at(e, "Name").(string)] = at(e, "ValueFrom").(string)
		}
		configs = append(configs, at(c, "Environment", 0, "Value").(string))
		if at(c, "ReadonlyRootFilesystem") != true {
			t.Errorf("%v can write", at(c, "Name"))
		}
	}
	if len(configs) != 2 || configs[0] != configs[1] {
		t.Fatal("the database is made ready with another configuration than the server's")
	}
	c, err := config.Parse([]byte(configs[1]), func(name string) (string, bool) {
		arn, ok := secrets[name]
		if !strings.HasPrefix(arn, "arn:aws:") {
			t.Errorf("%s is %q", name, arn)
		}
		return "resolved-resolved", ok
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, configs[1])
	}
	if c.Audit.Stdout != config.StdoutOnly || len(c.Tenants[0].Credentials) != 2 || len(c.TrustedProxies) != 1 || c.Auth.Digest.Key == "" ||
		c.Store != "postgres://spekeasy@drm.cluster-c.eu-west-1.rds.amazonaws.com:5432/spekeasy?sslmode=require" {
		t.Errorf("%s", configs[1])
	}
	if secrets["PGPASSWORD"] == "" {
		t.Error("there is no password for the database")
	}
	for what, ok := range map[string]bool{
		"deletion protection": at(all["Database"], "Properties", "DeletionProtection") == true,
		"encryption at rest":  at(all["Database"], "Properties", "StorageEncrypted") == true,
		"backups":             at(all["Database"], "Properties", "BackupRetentionPeriod") == uint64(35),
		"key rotation":        at(all["Key"], "Properties", "EnableKeyRotation") == true,
		"a kept key":          all["Key"]["DeletionPolicy"] == "Retain",
		"TLS":                 at(all["Listener"], "Properties", "Protocol") == "HTTPS",
		"no public addresses": at(all["Service"], "Properties", "NetworkConfiguration", "AwsvpcConfiguration", "AssignPublicIp") == "DISABLED",
		"internal by default": at(all["Balancer"], "Properties", "Scheme") == "internal",
	} {
		if !ok {
			t.Errorf("no %s", what)
		}
	}
	for where, st := range statements(s) {
		for _, r := range append(texts(st["Resource"]), texts(st["Action"])...) {
			if strings.Contains(r, "*") {
				t.Errorf("%s: %s", where, r)
			}
		}
	}
	for name, r := range all {
		walk(r["Properties"], name, func(path string, v any) {
			if strings.Contains(path, "CidrIp") && v == "0.0.0.0/0" {
				t.Errorf("%s is open to everybody", path)
			}
		})
	}
}

// CloudFormation refuses YAML's anchors and aliases, which its validator lets
// pass.
func TestNoAliases(t *testing.T) {
	for _, file := range []string{"template.yaml", "fargate.yaml"} {
		if m := regexp.MustCompile(`(?m)(: |- )[&*][A-Za-z].*$`).FindString(readText(t, file)); m != "" {
			t.Errorf("%s: %s", file, m)
		}
	}
}
