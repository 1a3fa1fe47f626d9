package main

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/pim-im/pim/server"
)

const configDoc = "../../docs/configuration.md"

// TestConfigurationDoc keeps docs/configuration.md in step with the flags.
// With PIM_UPDATE=1 it writes the file.
func TestConfigurationDoc(t *testing.T) {
	want := renderConfigDoc(t)
	if os.Getenv("PIM_UPDATE") != "" {
		if err := os.WriteFile(configDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(configDoc)
	if err != nil || string(got) != want {
		t.Fatalf("%s is not what the flags say (%v); run: make generate", configDoc, err)
	}
}

func renderConfigDoc(t *testing.T) string {
	t.Helper()
	parser, err := newParser(&grammar{}, streams{strings.NewReader(""), io.Discard, io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Written by make generate from the flags' own descriptions; edit those. -->

A flag goes before its environment variable, that before the configuration file (` + "`--config FILE`" + ` or
` + "`PIM_CONFIG`" + `), and that before the default. The file is one JSON object; its keys are the flags'
names without the dashes, its values strings, numbers, true or false:

` + "```json\n" + `{"listen": "127.0.0.1:7400", "listen-tcp": "", "idle-timeout": "2m", "log-format": "json"}
` + "```" + `

Durations are written like ` + "`1m30s`" + `. An unknown key, one that stands twice, and whatever follows the object is an
error; a key that only another command knows is not, so one file serves them all.

## Server

Settings of ` + "`pim serve`" + `.

`)
	settings := map[string]bool{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[server.Config]()) {
		settings[f.Tag.Get("name")] = true
	}
	serve := command(parser.Model.Node, "serve")
	table(&b, serve, func(f *kong.Flag) bool { return settings[f.Name] })
	b.WriteString("\n## Commands\n")
	for _, cmd := range parser.Model.Leaves(true) {
		fmt.Fprintf(&b, "\n### %s\n\n%s", cmd.Path(), cmd.Help)
		for _, arg := range cmd.Positional {
			fmt.Fprintf(&b, " `%s`: %s", arg.Summary(), arg.Help)
		}
		b.WriteString("\n\n")
		table(&b, cmd, func(f *kong.Flag) bool { return cmd != serve || !settings[f.Name] })
	}
	b.WriteString("\n## Exit status\n\n| status | meaning |\n|---|---|\n")
	for _, e := range exitStatuses {
		fmt.Fprintf(&b, "| %d | %s |\n", e.status, e.text)
	}
	return b.String()
}

// command returns the command called name.
func command(n *kong.Node, name string) *kong.Node {
	for _, c := range n.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func table(b *strings.Builder, cmd *kong.Node, show func(*kong.Flag) bool) {
	heading := "| flag | variable | default | meaning |\n|---|---|---|---|\n"
	for _, f := range cmd.Flags {
		if f.Hidden || f.Name == "help" || !show(f) {
			continue
		}
		b.WriteString(heading)
		heading = ""
		fmt.Fprintf(b, "| `--%s` | %s | %s | %s |\n", f.Name, code(strings.Join(f.Tag.Envs, " ")), code(f.Default), f.Help)
	}
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
