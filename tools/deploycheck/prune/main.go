// Command prune writes the part of Kubernetes' published OpenAPI schemas that deploy/ needs, without
// descriptions, as one JSON schema. Its argument is the folder api/openapi-spec/v3 of a release, as the
// module k8s.io/kubernetes has it:
//
//	go run ./prune "$(go mod download -json k8s.io/kubernetes@v1.37.2 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/api/openapi-spec/v3" > schemas/kubernetes.json
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// kinds are those that deploy/ has, by the file of their group and version.
var kinds = map[string][]string{
	"api__v1_openapi.json":                     {"ConfigMap", "Namespace", "Secret", "Service", "ServiceAccount"},
	"apis__apps__v1_openapi.json":              {"Deployment", "StatefulSet"},
	"apis__batch__v1_openapi.json":             {"Job"},
	"apis__networking.k8s.io__v1_openapi.json": {"NetworkPolicy"},
	"apis__policy__v1_openapi.json":            {"PodDisruptionBudget"},
}

const (
	refPrefix        = "#/components/schemas/"
	groupVersionKind = "x-kubernetes-group-version-kind"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string) error {
	defs := make(map[string]any)
	for file, names := range kinds {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		var doc struct {
			Components struct{ Schemas map[string]map[string]any }
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for name, schema := range doc.Components.Schemas {
			for _, kind := range names {
				if strings.HasSuffix(name, "."+kind) && schema[groupVersionKind] != nil {
					take(defs, doc.Components.Schemas, name)
				}
			}
		}
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", " ")
	return enc.Encode(map[string]any{"$defs": defs})
}

// take adds the schema name and what it refers to to defs.
func take(defs map[string]any, all map[string]map[string]any, name string) {
	if _, ok := defs[name]; ok {
		return
	}
	defs[name] = nil // it may refer to itself
	defs[name] = strict(all[name], func(ref string) { take(defs, all, ref) })
}

// strict returns a schema as JSON Schema has it: without descriptions and defaults, with unknown
// properties refused. It calls refers with the name of each schema that is referred to.
func strict(x any, refers func(string)) any {
	switch x := x.(type) {
	case []any:
		for i := range x {
			x[i] = strict(x[i], refers)
		}
	case map[string]any:
		for key, v := range x {
			_, isSchema := v.(map[string]any) // a property may have any name, "description" too
			switch {
			case key == "default", !isSchema && key == "description", !isSchema && strings.HasPrefix(key, "x-kubernetes") && key != groupVersionKind:
				delete(x, key)
			case key == "$ref" && !isSchema:
				name := strings.TrimPrefix(v.(string), refPrefix)
				refers(name)
				x[key] = "#/$defs/" + name
			default:
				x[key] = strict(v, refers)
			}
		}
		if _, ok := x["properties"].(map[string]any); ok && x["type"] == "object" && x["additionalProperties"] == nil {
			x["additionalProperties"] = false
		}
	}
	return x
}
