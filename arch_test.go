package pim_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pim-im/pim"

// maxLines is how many lines a file may have, unless it is generated.
const maxLines = 600

// layers lists the parts from the bottom up: a package imports packages of lower
// layers and of its own part, nothing else of this module. Tests may import
// anything.
var layers = [][]string{
	{"."},
	{"wire", "store", "clock", "strictjson", "username", "bus", "crew", "wholefile"},
	{"inbox", "account", "limit", "placement", "web"},
	{"conv", "access"}, // writers fill the inboxes
	{"gateway", "retain", "lbs", "route"},
	{"home"},
	{"server"},
}

// outside lists the parts beside the server's layers, and what each may import.
var outside = map[string][]string{
	"content":  {"."}, // the server does not look into payloads
	"client":   {".", "wire", "content"},
	"imtest":   {".", "wire", "store", "clock", "placement", "bus", "limit", "lbs", "strictjson", "account", "conv", "inbox", "gateway", "server", "client"},
	"examples": {".", "client"},
	"cmd":      {".", "wire", "strictjson", "account", "server", "web", "client", "content", "imtest"},
}

// goFile is one Go file of the module.
type goFile struct {
	path string // from the root, with slashes
	src  []byte
	ast  *ast.File
}

func (f *goFile) dir() string     { return path.Dir(f.path) }
func (f *goFile) isTest() bool    { return strings.HasSuffix(f.path, "_test.go") }
func (f *goFile) generated() bool { return ast.IsGenerated(f.ast) }

// goFiles returns the files of this module; tools/ is a module of its own.
func goFiles(t *testing.T) []*goFile {
	t.Helper()
	var files []*goFile
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules" || hasGoMod(p)) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(p) != ".go" {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, src, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, &goFile{filepath.ToSlash(p), src, f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// make test finds the tests that play many schedules by this: the tests themselves call Many of package seeds.
func TestManyIsCalledByTests(t *testing.T) {
	for _, f := range goFiles(t) {
		if !f.isTest() || f.dir() == "." || !bytes.Contains(f.src, []byte("seeds"+".Many(")) {
			continue
		}
		whole, err := parser.ParseFile(token.NewFileSet(), f.path, f.src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range whole.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			if bytes.Contains(f.src[d.Pos()-1:d.End()-1], []byte("seeds"+".Many(")) {
				t.Errorf("%s: Many of package seeds is called outside of a test: pass on what it returns", f.path)
			}
		}
	}
}

func hasGoMod(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// part returns the top-level folder that a package's folder belongs to.
func part(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	return first
}

// mayImport returns the parts that a package of part p may import besides its
// own; ok is false if p is in no list.
func mayImport(p string) (parts []string, ok bool) {
	if parts, ok := outside[p]; ok {
		return parts, true
	}
	for _, layer := range layers {
		if slices.Contains(layer, p) {
			return parts, true
		}
		parts = append(parts, layer...)
	}
	return nil, false
}

func TestImportsPointOneWay(t *testing.T) {
	for _, f := range goFiles(t) {
		from := part(f.dir())
		allowed, ok := mayImport(from)
		if !ok {
			t.Errorf("%s: part %q is in no layer; add it to arch_test.go", f.path, from)
			continue
		}
		if f.isTest() {
			continue
		}
		for _, spec := range f.ast.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			rest, ours := strings.CutPrefix(imported, module)
			if !ours {
				if from == "." && strings.Contains(part(imported), ".") {
					t.Errorf("%s imports %s; package pim imports the standard library only", f.path, imported)
				}
				continue
			}
			to := "."
			if rest != "" {
				to = part(rest[1:])
			}
			if to != from && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s; %s may import %v", f.path, imported, from, allowed)
			}
		}
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.isTest() {
			continue
		}
		documented[f.dir()] = documented[f.dir()] || f.ast.Doc != nil && !f.generated()
		// A package of generated code is documented by what it is generated from.
		if f.generated() {
			documented[f.dir()] = true
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

func TestFoldersAreNamedForTheDomain(t *testing.T) {
	for _, f := range goFiles(t) {
		for name := range strings.SplitSeq(f.dir(), "/") {
			switch name {
			case "internal", "pkg", "common", "util", "utils", "helpers", "misc", "shared":
				t.Errorf("%s: a folder called %q says nothing about what is in it", f.path, name)
			}
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, f := range goFiles(t) {
		if n := bytes.Count(f.src, []byte("\n")); n > maxLines && !f.generated() {
			t.Errorf("%s has %d lines, at most %d are allowed", f.path, n, maxLines)
		}
	}
}
