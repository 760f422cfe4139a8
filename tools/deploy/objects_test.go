package deploy

import (
	"fmt"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// decode reads an object as strictly as an API server that is asked to be strict.
func decode(document string) (runtime.Object, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme,
		networkingv1.AddToScheme, policyv1.AddToScheme, rbacv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	object, _, err := decoder.Decode([]byte(document), nil, nil)
	return object, err
}

// workload is what makes pods.
type workload struct {
	kind, name string
	selector   *metav1.LabelSelector
	template   corev1.PodTemplateSpec
}

// objects are what a chart makes, by kind.
type objects struct {
	workloads []workload
	services  []*corev1.Service
	configs   []*corev1.ConfigMap
	budgets   []*policyv1.PodDisruptionBudget
	scalers   []*autoscalingv2.HorizontalPodAutoscaler
	policies  []*networkingv1.NetworkPolicy
	sets      []*appsv1.StatefulSet
	accounts  []string
	roles     []*rbacv1.Role
	bindings  []*rbacv1.RoleBinding
	fixed     map[string]bool // kind and name of workloads that say how many they are
}

func sorted(t *testing.T, documents []string) objects {
	t.Helper()
	all := objects{fixed: map[string]bool{}}
	seen := map[string]bool{}
	for _, document := range documents {
		object, err := decode(document)
		if err != nil {
			t.Fatal(err)
		}
		key := object.GetObjectKind().GroupVersionKind().Kind + "/"
		switch o := object.(type) {
		case *appsv1.Deployment:
			all.workloads = append(all.workloads, workload{"Deployment", o.Name, o.Spec.Selector, o.Spec.Template})
			all.fixed["Deployment/"+o.Name] = o.Spec.Replicas != nil
			key += o.Name
		case *appsv1.StatefulSet:
			all.workloads = append(all.workloads, workload{"StatefulSet", o.Name, o.Spec.Selector, o.Spec.Template})
			all.sets = append(all.sets, o)
			all.fixed["StatefulSet/"+o.Name] = o.Spec.Replicas != nil
			key += o.Name
		case *batchv1.Job:
			all.workloads = append(all.workloads, workload{"Job", o.Name, &metav1.LabelSelector{MatchLabels: o.Spec.Template.Labels}, o.Spec.Template})
			key += o.Name
		case *corev1.Service:
			all.services = append(all.services, o)
			key += o.Name
		case *corev1.ConfigMap:
			all.configs = append(all.configs, o)
			key += o.Name
		case *policyv1.PodDisruptionBudget:
			all.budgets = append(all.budgets, o)
			key += o.Name
		case *autoscalingv2.HorizontalPodAutoscaler:
			all.scalers = append(all.scalers, o)
			key += o.Name
		case *networkingv1.NetworkPolicy:
			all.policies = append(all.policies, o)
			key += o.Name
		case *corev1.ServiceAccount:
			all.accounts = append(all.accounts, o.Name)
			key += o.Name
		case *rbacv1.Role:
			all.roles = append(all.roles, o)
			key += o.Name
		case *rbacv1.RoleBinding:
			all.bindings = append(all.bindings, o)
			key += o.Name
		default:
			t.Errorf("nobody looks at a %T", object)
		}
		if seen[key] {
			t.Errorf("%s is there twice", key)
		}
		seen[key] = true
	}
	return all
}

// selected returns the workloads whose pods a selector picks.
func (all objects) selected(t *testing.T, selector *metav1.LabelSelector) []workload {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(slices.Clone(all.workloads), func(w workload) bool { return !s.Matches(labels.Set(w.template.Labels)) })
}

// ports are those that pods name.
func ports(w workload) map[string]int32 {
	named := map[string]int32{}
	for _, c := range w.template.Spec.Containers {
		for _, p := range c.Ports {
			named[p.Name] = p.ContainerPort
		}
	}
	return named
}

func TestObjectsFindEachOther(t *testing.T) {
	for name, variant := range variants {
		t.Run(name, func(t *testing.T) {
			all := sorted(t, render(t, variant.release, variant.values))
			if len(all.workloads) < 3 || len(all.budgets) != 3 || len(all.services) != 2 {
				t.Fatalf("%d workloads, %d budgets, %d services", len(all.workloads), len(all.budgets), len(all.services))
			}
			for _, w := range all.workloads {
				w.check(t, all)
			}
			for _, s := range all.services {
				picked := all.selected(t, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
				if len(picked) != 1 {
					t.Errorf("service %s picks the pods of %d workloads", s.Name, len(picked))
					continue
				}
				for _, p := range s.Spec.Ports {
					hasPort(t, "service "+s.Name, p.TargetPort, picked[0])
				}
			}
			for _, b := range all.budgets {
				if picked := all.selected(t, b.Spec.Selector); len(picked) != 1 || picked[0].name != b.Name {
					t.Errorf("budget %s is for %v", b.Name, picked)
				}
			}
			for _, s := range all.sets {
				headless := func(v *corev1.Service) bool {
					return v.Name == s.Spec.ServiceName && v.Spec.ClusterIP == corev1.ClusterIPNone
				}
				if !slices.ContainsFunc(all.services, headless) {
					t.Errorf("stateful set %s has no headless service %s", s.Name, s.Spec.ServiceName)
				}
			}
			for _, b := range all.bindings {
				role := slices.ContainsFunc(all.roles, func(r *rbacv1.Role) bool { return r.Name == b.RoleRef.Name && b.RoleRef.Kind == "Role" })
				if !role || len(b.Subjects) != 1 || !slices.Contains(all.accounts, b.Subjects[0].Name) || b.Subjects[0].Namespace != "chat" {
					t.Errorf("binding %s binds nobody to nothing: %v %v", b.Name, b.RoleRef, b.Subjects)
				}
			}
			for _, h := range all.scalers {
				target := h.Spec.ScaleTargetRef
				fixed, there := all.fixed[target.Kind+"/"+target.Name]
				if !there || fixed {
					t.Errorf("autoscaler %s scales %s %s, which is not there or says itself how many it is", h.Name, target.Kind, target.Name)
				}
			}
			for _, p := range all.policies {
				picked := all.selected(t, &p.Spec.PodSelector)
				if len(picked) != 1 {
					t.Errorf("network policy %s is for %d workloads", p.Name, len(picked))
					continue
				}
				for _, rule := range p.Spec.Ingress {
					for _, port := range rule.Ports {
						hasPort(t, "network policy "+p.Name, *port.Port, picked[0])
					}
					for _, from := range rule.From {
						if from.NamespaceSelector == nil && len(all.selected(t, from.PodSelector)) == 0 {
							t.Errorf("network policy %s lets nobody in: %v", p.Name, from)
						}
					}
				}
			}
		})
	}
}

// external are the Secrets that operators make.
var external = []string{"tegami", "tegami-authority", "clients"}

// check looks at what a workload refers to, and at how it starts and ends.
func (w workload) check(t *testing.T, all objects) {
	t.Helper()
	what := w.kind + " " + w.name
	if picked := all.selected(t, w.selector); len(picked) != 1 || picked[0].name != w.name {
		t.Errorf("%s selects %d workloads", what, len(picked))
	}
	spec := w.template.Spec
	if account := spec.ServiceAccountName; account != "" && !slices.Contains(all.accounts, account) {
		t.Errorf("%s: there is no service account %s", what, account)
	}
	if mounts := spec.AutomountServiceAccountToken; mounts == nil || *mounts != (spec.ServiceAccountName != "") {
		t.Errorf("%s: it has a token that it does not need, or needs one", what)
	}
	volumes := map[string]bool{}
	for _, v := range spec.Volumes {
		volumes[v.Name] = true
		switch {
		case v.ConfigMap != nil:
			if !slices.ContainsFunc(all.configs, func(c *corev1.ConfigMap) bool { return c.Name == v.ConfigMap.Name }) {
				t.Errorf("%s: there is no config map %s", what, v.ConfigMap.Name)
			}
		case v.Secret != nil:
			if !slices.Contains(external, v.Secret.SecretName) {
				t.Errorf("%s: nobody makes the secret %s", what, v.Secret.SecretName)
			}
		}
	}
	used := map[string]bool{}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, m := range c.VolumeMounts {
			if used[m.Name] = true; !volumes[m.Name] {
				t.Errorf("%s: container %s mounts %s, which is no volume", what, c.Name, m.Name)
			}
		}
		if s := c.SecurityContext; s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
			t.Errorf("%s: container %s may become root", what, c.Name)
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: container %s is not bounded", what, c.Name)
		}
	}
	for name := range volumes {
		if !used[name] {
			t.Errorf("%s: nobody mounts %s", what, name)
		}
	}
	for _, m := range spec.Containers[0].VolumeMounts {
		if m.Name == "authority" {
			t.Errorf("%s: the node itself sees the authority's key", what)
		}
	}
	if w.kind == "Job" {
		return
	}
	c := spec.Containers[0]
	for kind, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
		if probe == nil || probe.HTTPGet == nil {
			t.Errorf("%s has no %s probe", what, kind)
			continue
		}
		hasPort(t, fmt.Sprintf("%s: %s probe", what, kind), probe.HTTPGet.Port, w)
	}
	// Time to drain, 4 s at most, and what comes before it.
	if grace := spec.TerminationGracePeriodSeconds; grace == nil || *grace < 20 {
		t.Errorf("%s is killed while it drains", what)
	}
}

func hasPort(t *testing.T, what string, port intstr.IntOrString, w workload) {
	t.Helper()
	if _, named := ports(w)[port.StrVal]; !named {
		t.Errorf("%s: %s %s has no port %s", what, w.kind, w.name, port.String())
	}
}
