package server_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/server"
)

// deployFiles returns the files of deploy/ by their paths.
func deployFiles(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir("../deploy", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = string(data)
		return err
	})
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	return files
}

// settings returns the names of a configuration's settings, and their environment variables.
func settings(c reflect.Type) map[string]bool {
	known := make(map[string]bool)
	for _, f := range reflect.VisibleFields(c) {
		known[f.Tag.Get("name")], known[f.Tag.Get("env")] = true, true
	}
	return known
}

// The files of deploy/ name no setting that a server does not have.
func TestDeploySettings(t *testing.T) {
	known := settings(reflect.TypeFor[server.Config]())
	env := regexp.MustCompile(`\bPIM_[A-Z_]+\b`)
	flag := regexp.MustCompile(`(?:pim serve|args: \[serve)[^\n]*`)
	for path, text := range deployFiles(t) {
		for _, name := range env.FindAllString(text, -1) {
			if !known[name] {
				t.Errorf("%s: there is no setting %s", path, name)
			}
		}
		for _, line := range flag.FindAllString(text, -1) {
			for _, m := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(line, -1) {
				if !known[m[1]] {
					t.Errorf("%s: there is no setting --%s", path, m[1])
				}
			}
		}
	}
}

// The alerts and the dashboard name no metric that a server does not have, and no label value that it
// never gives.
func TestDeployMetrics(t *testing.T) {
	c := config(t)
	c.ShedTarget = server.Defaults().ShedTarget // its metrics are there then
	c.TLSCert, c.TLSKey, _ = selfSigned(t, c.Data)
	has := make(map[string]bool)
	for _, name := range start(t, c, server.Options{Bus: bustest.NewNetwork().Join(bus.Node{Name: "a"})}).MetricNames() {
		has[name] = true
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			has[name+part] = strings.HasSuffix(name, "_seconds") || strings.HasSuffix(name, "_entries") // the names of histograms
		}
	}
	named := regexp.MustCompile(`\bpim_\w+`)
	kinds := regexp.MustCompile(`pim_sends_total\{result=~"([^"]*)"`)
	found := 0
	for path, text := range deployFiles(t) {
		for _, name := range named.FindAllString(text, -1) {
			found++
			if !has[name] {
				t.Errorf("%s: there is no metric %s", path, name)
			}
		}
		for _, m := range kinds.FindAllStringSubmatch(text, -1) {
			for _, kind := range strings.Split(m[1], "|") {
				if !isKind(kind) {
					t.Errorf("%s: no send has the result %q", path, kind)
				}
			}
		}
	}
	if found < 40 {
		t.Errorf("%d metrics are named", found)
	}
}

func isKind(name string) bool {
	for k := pim.Kind(0); k.Known(); k++ {
		if k.String() == name {
			return true
		}
	}
	return false
}
