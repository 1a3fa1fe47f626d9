package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim/server"
)

const commandsDoc = "../../docs/commands.md"

// sections returns the parts of docs/commands.md by their headings.
func sections(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(commandsDoc)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		heading, body, _ := strings.Cut(part, "\n")
		parts[heading] = body
	}
	return parts
}

var (
	fieldTable = regexp.MustCompile(`(?m)^\| field \| meaning \|\n\|---\|---\|\n((?:\|.*\n)*)`)
	shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")
	quoted     = regexp.MustCompile("`([^`]+)`")
)

// called finds the command lines of pim in a line for a shell.
var called = regexp.MustCompile(`(?:^|[ (])(?:\./bin/)?pim ([^)|]+)`)

// fieldsOf returns the fields that the tables of a section name in the first column.
func fieldsOf(section string) map[string]bool {
	fields := map[string]bool{}
	for _, table := range fieldTable.FindAllStringSubmatch(section, -1) {
		for row := range strings.Lines(table[1]) {
			for _, name := range quoted.FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
				fields[name[1]] = true
			}
		}
	}
	return fields
}

// namesOf adds the JSON names of a struct to names, embedded ones included.
func namesOf(of reflect.Type, names map[string]bool) {
	for f := range of.NumField() {
		field := of.Field(f)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name != "":
			names[name] = true
		case field.Anonymous:
			namesOf(field.Type, names)
		}
	}
}

// Each field that a command prints as JSON is in its section of docs/commands.md, and no other.
func TestCommandsDocFields(t *testing.T) {
	parts := sections(t)
	for heading, printed := range map[string][]any{
		"What all have in common": {errorJSON{}},
		"Stored":                  {sentJSON{}},
		"Entry":                   {entryJSON{}},
		"pim list":                {conversationJSON{}},
		"pim settings":            {settingJSON{}},
		"pim read, pim unread":    {readJSON{}},
		"pim retain":              {retentionJSON{}},
		"pim group":               {memberJSON{}, invitationJSON{}},
		"pim devices":             {deviceJSON{}},
		"pim receipts":            {directReceipt{}, groupReceipt{}, readerJSON{}},
		"pim look":                {lookDirectJSON{}, lookGroupJSON{}, typingJSON{}, presenceJSON{}},
		"pim serve":               {listening{}},
		"pim cluster":             {clusterInitJSON{}, clusterRestoredJSON{}, server.ClusterStatus{}, server.NodeStatus{}, server.NodeReport{}, server.StoreReport{}},
		"pim backup, pim restore": {backupJSON{}},
		"pim revoke, pim user":    {server.Revoked{}, server.Standing{}},
		"pim audit":               {server.Audit{}},
	} {
		want := map[string]bool{}
		for _, v := range printed {
			namesOf(reflect.TypeOf(v), want)
		}
		got := fieldsOf(parts[heading])
		if !maps.Equal(got, want) {
			t.Errorf("%s, section %q names the fields %q, and it prints %q", commandsDoc, heading,
				slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
}

// Each JSON field in the source of the commands is named in docs/commands.md. That covers
// structs without a name, and those within others.
func TestCommandsDocNamesAll(t *testing.T) {
	known := map[string]bool{}
	for _, part := range sections(t) {
		for _, name := range quoted.FindAllStringSubmatch(shellBlock.ReplaceAllString(part, ""), -1) {
			known[name[1]] = true
		}
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if field, ok := n.(*ast.Field); ok && field.Tag != nil {
				tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`"))
				if name, _, _ := strings.Cut(tag.Get("json"), ","); name != "" && !known[name] {
					t.Errorf("%s does not name the field %q of %s", commandsDoc, name, file.Name())
				}
			}
			return true
		})
	}
}

// Each command has an example in docs/commands.md, and each example there and in the READMEs is a
// command line that pim takes.
func TestExamplesParse(t *testing.T) {
	missing := map[string]bool{}
	parser, err := newParser(&grammar{}, streams{strings.NewReader(""), io.Discard, io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range parser.Model.Leaves(true) {
		missing[cmd.Path()] = true
	}
	for _, doc := range []string{commandsDoc, "../../README.md", "../../README.zh-CN.md"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range shellBlock.FindAllStringSubmatch(string(text), -1) {
			for line := range strings.Lines(block[1]) {
				line, _, _ = strings.Cut(line, " # ")
				for _, call := range called.FindAllStringSubmatch(line, -1) {
					path, err := parses(t, words(call[1]))
					if err != nil {
						t.Errorf("%s: pim %s: %v", doc, call[1], err)
					}
					if doc == commandsDoc {
						delete(missing, path)
					}
				}
			}
		}
	}
	if len(missing) > 0 {
		t.Errorf("%s has no example of %q", commandsDoc, slices.Sorted(maps.Keys(missing)))
	}
}

// parses parses a command line and returns the path of its command.
func parses(t *testing.T, args []string) (string, error) {
	t.Helper()
	parser, err := newParser(&grammar{}, streams{strings.NewReader(""), io.Discard, io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		return "", err
	}
	if ctx.Selected() == nil {
		return "", fmt.Errorf("it names no command")
	}
	return ctx.Selected().Path(), nil
}

// words splits a command line as a shell does, quotes included.
func words(line string) []string {
	var all []string
	for _, w := range regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`).FindAllString(strings.TrimSpace(line), -1) {
		all = append(all, strings.Trim(w, `"'`))
	}
	return all
}
