// Package deploycheck checks the files of deploy/ against what reads them: the published schemas of
// Kubernetes, the loader of Compose, the parsers of Prometheus, and systemd. It has no code of its own,
// and is a module by itself, so that pim does not depend on any of them.
//
// That the settings and metrics that these files name exist is checked beside the server (TestDeploy).
package deploycheck

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

const deploy = "../../deploy"

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(deploy, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	return files
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// object is one Kubernetes object.
type object struct {
	kind, name string
	body       map[string]any
}

// objects returns those of a file. A key that stands twice is an error of the parser.
func objects(t *testing.T, file string) (all []object) {
	t.Helper()
	dec := yaml.NewDecoder(bytes.NewReader(read(t, file)))
	for {
		var body map[string]any
		err := dec.Decode(&body)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		data, err := json.Marshal(body) // the schema's numbers are those of JSON
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &body); err != nil {
			t.Fatal(err)
		}
		name, _ := at(body, "metadata", "name").(string)
		kind, _ := body["kind"].(string)
		all = append(all, object{kind, name, body})
	}
}

// at returns what lies at path in x, nil if there is nothing.
func at(x any, path ...string) any {
	for _, key := range path {
		m, _ := x.(map[string]any)
		x = m[key]
	}
	return x
}

// schemas returns the name of each kind's definition, by "group/version kind", and the compiler.
func schemas(t *testing.T) (*jsonschema.Compiler, map[string]string) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(read(t, "schemas/kubernetes.json")))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("kubernetes.json", doc); err != nil {
		t.Fatal(err)
	}
	names := make(map[string]string)
	defs, _ := at(doc, "$defs").(map[string]any)
	for name, def := range defs {
		kinds, _ := at(def, "x-kubernetes-group-version-kind").([]any)
		for _, k := range kinds {
			group, _ := at(k, "group").(string)
			version, _ := at(k, "version").(string)
			kind, _ := at(k, "kind").(string)
			names[strings.TrimPrefix(group+"/"+version, "/")+" "+kind] = name
		}
	}
	return c, names
}

// Each object of deploy/kubernetes is as the schema of its kind says, with no unknown field.
func TestKubernetesSchemas(t *testing.T) {
	c, names := schemas(t)
	check := func(o object) error {
		version, _ := o.body["apiVersion"].(string)
		name, ok := names[version+" "+o.kind]
		if !ok {
			t.Fatalf("no schema of %s %s: add it to prune", version, o.kind)
		}
		schema, err := c.Compile("kubernetes.json#/$defs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(o.body)
	}
	for _, file := range glob(t, "kubernetes/*.yaml") {
		for _, o := range objects(t, file) {
			if err := check(o); err != nil {
				t.Errorf("%s: %s %s: %v", file, o.kind, o.name, err)
			}
			// And the schema notices what is wrong.
			o.body["metadata"].(map[string]any)["nmae"] = "x"
			if check(o) == nil {
				t.Errorf("%s: %s %s: an unknown field is taken", file, o.kind, o.name)
			}
		}
	}
}

// What the objects of a file name is in the file: labels, ports, service accounts, config maps, volumes.
func TestKubernetesNames(t *testing.T) {
	for _, file := range glob(t, "kubernetes/*.yaml") {
		all := objects(t, file)
		has := func(kind, name string) bool {
			return slices.ContainsFunc(all, func(o object) bool { return o.kind == kind && o.name == name })
		}
		var labels []map[string]any // of pods
		ports := make(map[string]bool)
		for _, o := range all {
			pod := at(o.body, "spec", "template")
			if pod == nil {
				continue
			}
			l, _ := at(pod, "metadata", "labels").(map[string]any)
			labels = append(labels, l)
			spec := at(pod, "spec")
			if account, _ := at(spec, "serviceAccountName").(string); !has("ServiceAccount", account) {
				t.Errorf("%s: %s: no service account %q", file, o.name, account)
			}
			if service, _ := at(o.body, "spec", "serviceName").(string); o.kind == "StatefulSet" && !has("Service", service) {
				t.Errorf("%s: %s: no service %q", file, o.name, service)
			}
			volumes := make(map[any]bool)
			for _, list := range []any{at(spec, "volumes"), at(o.body, "spec", "volumeClaimTemplates")} {
				list, _ := list.([]any)
				for _, v := range list {
					volumes[at(v, "name")], volumes[at(v, "metadata", "name")] = true, true
				}
			}
			if at(spec, "securityContext", "runAsNonRoot") != true || at(spec, "automountServiceAccountToken") != false {
				t.Errorf("%s: %s may run as root, or has a token of Kubernetes", file, o.name)
			}
			containers, _ := at(spec, "containers").([]any)
			for _, c := range containers {
				if at(c, "securityContext", "readOnlyRootFilesystem") != true || at(c, "securityContext", "allowPrivilegeEscalation") != false {
					t.Errorf("%s: %s: a container may write its image, or gain privileges", file, o.name)
				}
				if at(c, "resources", "limits", "memory") == nil || at(c, "resources", "requests", "cpu") == nil {
					t.Errorf("%s: %s: a container without resources", file, o.name)
				}
				list, _ := at(c, "ports").([]any)
				for _, p := range list {
					name, _ := at(p, "name").(string)
					ports[name] = true
				}
				list, _ = at(c, "envFrom").([]any)
				for _, e := range list {
					if name, _ := at(e, "configMapRef", "name").(string); !has("ConfigMap", name) {
						t.Errorf("%s: %s: no config map %q", file, o.name, name)
					}
				}
				list, _ = at(c, "volumeMounts").([]any)
				for _, m := range list {
					if !volumes[at(m, "name")] {
						t.Errorf("%s: %s: no volume %v", file, o.name, at(m, "name"))
					}
				}
				for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
					if port, ok := at(c, probe, "httpGet", "port").(string); ok && !ports[port] {
						t.Errorf("%s: %s: %s asks port %q", file, o.name, probe, port)
					}
				}
			}
		}
		selects := func(o object, selector any) {
			want, _ := selector.(map[string]any)
			ok := slices.ContainsFunc(labels, func(l map[string]any) bool {
				for key, value := range want {
					if l[key] != value {
						return false
					}
				}
				return len(want) > 0
			})
			if !ok {
				t.Errorf("%s: %s %s selects no pod: %v", file, o.kind, o.name, want)
			}
		}
		named := func(o object, list any, key string) {
			ps, _ := list.([]any)
			for _, p := range ps {
				if port, ok := at(p, key).(string); ok && !ports[port] {
					t.Errorf("%s: %s %s: no port %q", file, o.kind, o.name, port)
				}
			}
		}
		for _, o := range all {
			switch spec := o.body["spec"]; o.kind {
			case "Service":
				selects(o, at(spec, "selector"))
				named(o, at(spec, "ports"), "targetPort")
			case "StatefulSet", "Deployment", "PodDisruptionBudget":
				selects(o, at(spec, "selector", "matchLabels"))
			case "NetworkPolicy":
				selects(o, at(spec, "podSelector", "matchLabels"))
				rules, _ := at(spec, "ingress").([]any)
				for _, r := range rules {
					named(o, at(r, "ports"), "port")
				}
			}
			if ns := at(o.body, "metadata", "namespace"); len(labels) > 0 && ns != nil && !has("Namespace", ns.(string)) {
				t.Errorf("%s: %s %s: no namespace %v", file, o.kind, o.name, ns)
			}
		}
	}
}

// Compose's own loader takes the compose files.
func TestCompose(t *testing.T) {
	for _, file := range glob(t, "compose*.yaml") {
		project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
			WorkingDir:  deploy,
			ConfigFiles: []types.ConfigFile{{Filename: file, Content: read(t, file)}},
			Environment: types.Mapping{},
		}, func(o *loader.Options) { o.SetProjectName("pim", true) })
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		for name, s := range project.Services {
			for of := range s.DependsOn {
				if _, ok := project.Services[of]; !ok {
					t.Errorf("%s: %s waits for %s, which is not there", file, name, of)
				}
			}
		}
	}
}

// Prometheus takes the alerts, and each has what people need.
func TestAlerts(t *testing.T) {
	for _, file := range glob(t, "prometheus/*.yaml") {
		groups, errs := rulefmt.Parse(read(t, file), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
		if len(errs) > 0 {
			t.Fatalf("%s: %v", file, errs)
		}
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
					t.Errorf("%s: %s has no severity, summary or description", file, r.Alert)
				}
			}
		}
	}
}

// Prometheus takes each expression of the dashboard, and no two panels share an ID or a place.
func TestDashboards(t *testing.T) {
	for _, file := range glob(t, "grafana/*.json") {
		var d struct {
			Title, UID string
			Panels     []struct {
				ID      int
				Type    string
				Title   string
				GridPos struct{ X, Y, W, H int }
				Targets []struct{ RefID, Expr string }
			}
		}
		if err := json.Unmarshal(read(t, file), &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if d.Title == "" || d.UID == "" || len(d.Panels) < 10 {
			t.Errorf("%s: %q, %q, %d panels", file, d.Title, d.UID, len(d.Panels))
		}
		ids, places := make(map[int]bool), make(map[[2]int]bool)
		for _, p := range d.Panels {
			place := [2]int{p.GridPos.X, p.GridPos.Y}
			if ids[p.ID] || places[place] || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W < 1 || p.GridPos.H < 1 {
				t.Errorf("%s: %q shares its ID or place with another, or has none", file, p.Title)
			}
			ids[p.ID], places[place] = true, true
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s: %q shows nothing", file, p.Title)
			}
			for _, target := range p.Targets {
				expr := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr)
				if _, err := parser.NewParser(parser.Options{}).ParseExpr(expr); err != nil {
					t.Errorf("%s: %q: %v", file, p.Title, err)
				}
			}
		}
	}
}

// systemd takes the unit, where there is systemd.
func TestSystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here")
	}
	program := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/pim\b`)
	for _, file := range glob(t, "systemd/*.service") {
		unit := read(t, file)
		if !program.Match(unit) {
			t.Errorf("%s does not start /usr/local/bin/pim", file)
		}
		// It wants a program that is there.
		copied := filepath.Join(t.TempDir(), filepath.Base(file))
		if err := os.WriteFile(copied, program.ReplaceAll(unit, []byte("ExecStart=/bin/true")), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", copied).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}
