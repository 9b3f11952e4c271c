package tools

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"spekeasy/internal/config"
)

const chartDir = "../helm/spekeasy"

// values are what an operator sets at least.
func values(more map[string]any) map[string]any {
	v := map[string]any{"config": map[string]any{
		"store": "${STORE_URL}",
		"tenants": []any{map[string]any{"id": "acme", "credentials": []any{
			map[string]any{"name": "encoders", "basic": map[string]any{"user": "acme", "password": "${ACME_PASSWORD}"}},
		}}},
	}}
	for k, x := range more {
		v[k] = x
	}
	return v
}

// render returns the objects of the chart, decoded as strictly as an API
// server that validates fields does.
func render(t *testing.T, more map[string]any) []runtime.Object {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(c, values(more), chartutil.ReleaseOptions{Name: "keys", Namespace: "drm", IsInstall: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Render(c, all)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, autoscalingv2.AddToScheme, batchv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	for name, text := range files {
		if !strings.HasSuffix(name, ".yaml") || strings.Contains(name, "servicemonitor") {
			continue
		}
		for doc := range strings.SplitSeq(text, "\n---\n") {
			if strings.TrimSpace(doc) == "" {
				continue
			}
			o, _, err := decoder.Decode([]byte(doc), nil, nil)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, doc)
			}
			objects = append(objects, o)
		}
	}
	return objects
}

func only[T runtime.Object](t *testing.T, objects []runtime.Object, which func(T) bool) T {
	t.Helper()
	var found []T
	for _, o := range objects {
		if x, ok := o.(T); ok && (which == nil || which(x)) {
			found = append(found, x)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects %T", len(found), *new(T))
	}
	return found[0]
}

func TestChartLints(t *testing.T) {
	for _, m := range lint.All(chartDir, values(nil), "drm", true).Messages {
		if m.Severity >= support.WarningSev {
			t.Errorf("%v", m)
		}
	}
}

// Every way to set the chart gives objects that Kubernetes knows, to the last
// field.
func TestChartDecodes(t *testing.T) {
	for name, c := range map[string]struct {
		values  map[string]any
		objects int
	}{
		"as it comes": {nil, 10},
		"everything on": {map[string]any{
			"tls": map[string]any{"secretName": "keys-tls"}, "metrics": map[string]any{"serviceMonitor": true},
			"ingress":          map[string]any{"enabled": true, "className": "nginx", "tlsSecretName": "x", "annotations": map[string]any{"a": "b"}},
			"imagePullSecrets": []any{map[string]any{"name": "pull"}}, "nodeSelector": map[string]any{"a": "b"},
			"tolerations": []any{map[string]any{"key": "a", "operator": "Exists"}}, "affinity": map[string]any{"nodeAffinity": map[string]any{}},
			"extraEnv":       []any{map[string]any{"name": "GOMEMLIMIT", "value": "400MiB"}},
			"service":        map[string]any{"type": "LoadBalancer", "annotations": map[string]any{"a": "b"}},
			"serviceAccount": map[string]any{"annotations": map[string]any{"a": "b"}},
			"networkPolicy":  map[string]any{"encryptors": []any{map[string]any{"ipBlock": map[string]any{"cidr": "10.0.0.0/8"}}}},
		}, 11},
		"everything off": {map[string]any{
			"autoscaling": map[string]any{"enabled": false}, "networkPolicy": map[string]any{"enabled": false}, "migrate": false,
			"serviceAccount": map[string]any{"create": false, "name": "mine"}, "secrets": []any{}, "preStopSeconds": 0,
		}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			if got := render(t, c.values); len(got) != c.objects {
				t.Errorf("%d objects, want %d", len(got), c.objects)
			}
		})
	}
}

// The chart refuses what would not work, before anything is changed.
func TestChartRefuses(t *testing.T) {
	for name, v := range map[string]map[string]any{
		"no tenant":        {"config": map[string]any{"tenants": []any{}}},
		"the chart's port": {"config": map[string]any{"listen": ":1", "tenants": []any{1}}},
		"a slip":           {"replicaCount": 3},
		"a bad digest":     {"image": map[string]any{"digest": "sha256:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := loader.Load(chartDir)
			if err != nil {
				t.Fatal(err)
			}
			all, err := chartutil.ToRenderValues(c, values(v), chartutil.ReleaseOptions{Name: "keys"}, nil)
			if err == nil {
				_, err = engine.Render(c, all)
			}
			if err == nil {
				t.Error("accepted")
			}
		})
	}
}

// The configuration that the chart writes is one that the server takes.
func TestChartConfig(t *testing.T) {
	for _, secret := range []string{"", "keys-tls"} {
		cm := only(t, render(t, map[string]any{"tls": map[string]any{"secretName": secret}}), func(m *corev1.ConfigMap) bool { return m.Name == "keys-spekeasy" })
		c, err := config.Parse([]byte(cm.Data["config.yaml"]), func(name string) (string, bool) { return "postgres://db/" + name, true })
		if err != nil {
			t.Fatalf("%v\n%s", err, cm.Data["config.yaml"])
		}
		if c.Listen != ":8080" || c.Admin.Listen != ":8081" || c.Admin.Pprof || c.Log.Format != "json" || c.Store != "postgres://db/STORE_URL" ||
			c.KeyManager != "env:SPEKEASY_KEK" || c.TLS.On() != (secret != "") {
			t.Errorf("%+v", c)
		}
	}
}

// A pod can write to its volumes alone, is nobody, brings no secret in its own
// text, and ends gently.
func TestChartPod(t *testing.T) {
	objects := render(t, map[string]any{"tls": map[string]any{"secretName": "keys-tls"}})
	d := only[*appsv1.Deployment](t, objects, nil)
	pod := d.Spec.Template.Spec
	c := pod.Containers[0]
	s := c.SecurityContext
	if !*s.ReadOnlyRootFilesystem || !*s.RunAsNonRoot || *s.AllowPrivilegeEscalation || *s.RunAsUser != 65532 ||
		!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("security context %+v", s)
	}
	if *pod.AutomountServiceAccountToken {
		t.Error("it gets a token of the API server")
	}
	if d.Spec.Replicas != nil {
		t.Error("replicas are set beside an autoscaler")
	}
	if c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.LivenessProbe.HTTPGet.Path != "/livez" || c.StartupProbe == nil {
		t.Error("probes")
	}
	if grace := *pod.TerminationGracePeriodSeconds; c.Lifecycle.PreStop.Sleep.Seconds+25 > grace {
		t.Errorf("%d s are not enough for the pause and the draining", grace)
	}
	if len(c.Env) > 0 || len(c.EnvFrom) != 1 || c.EnvFrom[0].SecretRef.Name != "spekeasy" {
		t.Errorf("environment %v %v", c.Env, c.EnvFrom)
	}
	mounts := map[string]bool{}
	for _, m := range c.VolumeMounts {
		mounts[m.Name] = true
		if m.Name != "data" && !m.ReadOnly {
			t.Errorf("%s can be written to", m.Name)
		}
	}
	for _, v := range pod.Volumes {
		if !mounts[v.Name] {
			t.Errorf("volume %s is not mounted", v.Name)
		}
		delete(mounts, v.Name)
	}
	if len(mounts) > 0 {
		t.Errorf("no volumes %v", mounts)
	}
	np := only[*networkingv1.NetworkPolicy](t, objects, nil)
	if len(np.Spec.Ingress) != 2 || len(np.Spec.Ingress[1].From) == 0 {
		t.Errorf("anybody may read metrics: %+v", np.Spec.Ingress)
	}
	pdb := only[*policyv1.PodDisruptionBudget](t, objects, nil)
	hpa := only[*autoscalingv2.HorizontalPodAutoscaler](t, objects, nil)
	if pdb.Spec.MinAvailable.IntValue() >= int(*hpa.Spec.MinReplicas) {
		t.Error("no node can ever be drained")
	}
	for _, o := range objects {
		if _, ok := o.(*corev1.Secret); ok {
			t.Error("the chart makes a secret")
		}
	}
	text, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil || strings.Contains(string(text), "password: ") && !strings.Contains(string(text), `password: "${`) {
		t.Errorf("values hold a password, %v", err)
	}
}
