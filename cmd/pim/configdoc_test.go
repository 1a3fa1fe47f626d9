package main

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
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
	table(&b, serve.Flags, func(f *kong.Flag) bool { return settings[f.Name] })
	b.WriteString(`
## Commands

What each prints, and examples, are in [commands.md](commands.md). A user or group that a command is about is an
argument; a conversation is named by flags, because there are two ways to name it.

### Connection

Flags of every command that connects as a user.

`)
	connection := flagsOf(t, &struct{ clientFlags }{})
	table(&b, connection, func(*kong.Flag) bool { return true })
	b.WriteString(`
### Conversation

Flags of every command about one conversation; one of them is given.

`)
	conversation := flagsOf(t, &struct{ target }{})
	table(&b, conversation, func(*kong.Flag) bool { return true })
	for _, cmd := range parser.Model.Leaves(true) {
		fmt.Fprintf(&b, "\n### %s\n\n%s", cmd.Path(), cmd.Help)
		for _, arg := range cmd.Positional {
			fmt.Fprintf(&b, " `%s`: %s", arg.Summary(), arg.Help)
		}
		var shared []*kong.Flag
		switch connects, converses := has(cmd.Flags, connection), has(cmd.Flags, conversation); {
		case connects && converses:
			shared = slices.Concat(connection, conversation)
			b.WriteString(" With the flags of a [connection](#connection) and a [conversation](#conversation).")
		case connects:
			shared = connection
			b.WriteString(" With the flags of a [connection](#connection).")
		}
		b.WriteString("\n\n")
		table(&b, cmd.Flags, func(f *kong.Flag) bool {
			return !in(shared, f) && (cmd != serve || !settings[f.Name])
		})
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

// flagsOf returns the flags that a struct declares.
func flagsOf(t *testing.T, of any) (flags []*kong.Flag) {
	t.Helper()
	parser, err := kong.New(of, kong.Vars{"server": defaultServer})
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model.Flags
}

// has reports whether all of want are among flags.
func has(flags, want []*kong.Flag) bool {
	return !slices.ContainsFunc(want, func(f *kong.Flag) bool { return f.Name != "help" && !in(flags, f) })
}

// in reports whether a flag with f's name and meaning is among flags.
func in(flags []*kong.Flag, f *kong.Flag) bool {
	return slices.ContainsFunc(flags, func(g *kong.Flag) bool { return g.Name == f.Name && g.Help == f.Help })
}

func table(b *strings.Builder, flags []*kong.Flag, show func(*kong.Flag) bool) {
	heading := "| flag | variable | default | meaning |\n|---|---|---|---|\n"
	for _, f := range flags {
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
