package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// grammar is the command line.
type grammar struct {
	Config configFile `name:"config" env:"PIM_CONFIG" placeholder:"FILE" help:"JSON file with settings: one object, its keys the flags' names without dashes in front."`

	Serve      serveCmd      `cmd:"" help:"Start a server."`
	Backup     backupCmd     `cmd:"" help:"Copy the data directory, while the server runs or not, and read the copy to see that it is whole."`
	Restore    restoreCmd    `cmd:"" help:"Put a backup back, or say that it was put back; before the server is started on it."`
	Cluster    clusterCmd    `cmd:"" help:"Prepare the store of several nodes."`
	Migrate    migrateCmd    `cmd:"" help:"Copy a store from one engine to another, and prove that nothing is lost; while all servers are stopped."`
	Token      tokenCmd      `cmd:"" help:"Print a token that lets a user in."`
	Revoke     revokeCmd     `cmd:"" help:"Have a running server refuse tokens that a user, a device has, or one token, and end their connections."`
	User       userCmd       `cmd:"" help:"Block a user, end that, or show what is revoked."`
	Audit      auditCmd      `cmd:"" help:"Print what operators had a server do, and who it was."`
	Send       sendCmd       `cmd:"" help:"Send messages and wait until they are stored."`
	Tail       tailCmd       `cmd:"" help:"Print a conversation's entries, and new ones as they come."`
	List       listCmd       `cmd:"" help:"Print your conversations and what is unread, and change nothing."`
	Devices    devicesCmd    `cmd:"" help:"Print your devices, or sign one of them out."`
	Settings   settingsCmd   `cmd:"" help:"Print your contacts, blocks, mutes, pins, marks, and what is switched off."`
	Chat       chatCmd       `cmd:"" help:"Chat, on the whole terminal; line by line if input or output is none."`
	Group      groupCmd      `cmd:"" help:"Create groups; join and leave them."`
	Edit       editCmd       `cmd:"" help:"Replace the text of a message."`
	Recall     recallCmd     `cmd:"" help:"Take a message back."`
	Erase      eraseCmd      `cmd:"" help:"Erase all that you wrote in a conversation, or in all."`
	Retain     retainCmd     `cmd:"" help:"Say for how long a conversation keeps its messages."`
	React      reactCmd      `cmd:"" help:"React to a message, or take that back."`
	PinMessage pinMessageCmd `cmd:"" name:"pin-message" help:"Pin a message for all, or end that."`
	Mute       muteCmd       `cmd:"" help:"Have no notifications of a conversation, or end that."`
	Pin        pinCmd        `cmd:"" help:"Keep a conversation on top of your list, or end that."`
	Block      blockCmd      `cmd:"" help:"Take no direct messages of a user, or end that."`
	Contact    contactCmd    `cmd:"" help:"Name a contact, or remove one."`
	Read       readCmd       `cmd:"" help:"Mark a conversation as read, on all devices of the user."`
	Unread     unreadCmd     `cmd:"" help:"Mark a conversation as unread, or end that."`
	Receipts   receiptsCmd   `cmd:"" help:"Print who has read what; or switch receipts on or off."`
	Look       lookCmd       `cmd:"" help:"Print what others read and write, and who is connected, as it comes."`
	Replay     replayCmd     `cmd:"" help:"Play a recorded chat through a server, and verify what every member got."`
	Bench      benchCmd      `cmd:"" help:"Measure a running server."`
	Sim        simCmd        `cmd:"" help:"Play what is too large for this machine, in virtual time."`
	Relay      relayCmd      `cmd:"" hidden:"" help:"Serve the relay that bench measures as the floor."`
	Version    versionCmd    `cmd:"" help:"Print the versions of program, protocol and Go."`
}

const description = `A self-hosted instant-messaging system: a message that was acknowledged is never lost, never doubled, and shown in the same order on every device.

A flag goes before its environment variable, that before the configuration file, and that before the default, which help shows in brackets.

pim help COMMAND tells more about a command, as does pim COMMAND --help.`

// streams are where a command reads from and prints to.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run carries out one command line and returns the exit status, see exit.go.
func run(ctx context.Context, args []string, s streams) int {
	cmd, err := parse(args, s)
	if err == nil {
		cmd.BindTo(ctx, (*context.Context)(nil))
		err = cmd.Run(s)
	}
	return report(err, s.err, wantsJSON(cmd, args))
}

// wantsJSON reports whether the command that args call prints JSON. cmd is nil if args are wrong.
func wantsJSON(cmd *kong.Context, args []string) bool {
	if cmd == nil {
		return slices.Contains(args, "--json")
	}
	for _, f := range cmd.Flags() {
		if f.Name == "json" {
			return cmd.FlagValue(f) == true
		}
	}
	return false
}

// parse reads a command line, the environment and the configuration file.
// If the command line asks for help, parse prints the help and returns errHelp.
func parse(args []string, s streams) (cmd *kong.Context, err error) {
	for _, a := range args {
		// kong would replace bytes that are not UTF-8, but a message must arrive as typed.
		if !utf8.ValidString(a) {
			hint := ""
			if args[0] == "send" {
				hint = "; pim send - takes messages of any bytes, a line each, from standard input"
			}
			return nil, &usageError{fmt.Errorf("%q is not UTF-8%s", a, hint), ""}
		}
	}
	parser, err := newParser(&grammar{}, s)
	if err != nil {
		return nil, err
	}
	// kong prints help in the middle of parsing and then calls its Exit, which panics
	// here (see newParser): if parsing went on, it would complain about missing arguments.
	defer func() {
		if r := recover(); r != nil {
			if r != any(errHelp) {
				panic(r)
			}
			cmd, err = nil, errHelp
		}
	}()
	if len(args) == 0 {
		args = []string{"--help"}
	} else if args[0] == "help" { // as many programs have it
		args = append(slices.Clone(args[1:]), "--help")
	}
	cmd, err = parser.Parse(args)
	var wrong *kong.ParseError
	if errors.As(err, &wrong) {
		if flag, ok := strings.CutPrefix(err.Error(), "unknown flag "); ok && !strings.HasPrefix(flag, "--") {
			flag, _, _ = strings.Cut(flag, ",")
			err = fmt.Errorf("unknown flag %s; write -- before a text that begins with a dash", flag)
		}
		err = &usageError{err, commandOf(wrong.Context)}
	}
	return cmd, err
}

func newParser(g *grammar, s streams) (*kong.Kong, error) {
	return kong.New(g,
		kong.Name("pim"),
		kong.Description(description),
		kong.Writers(s.out, s.err),
		kong.Vars{"server": defaultServer},
		kong.Exit(func(int) { panic(errHelp) }),
		kong.ValueFormatter(helpOf),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
}

// helpOf returns what help says about a flag: its text, its default and its
// variable.
func helpOf(v *kong.Value) string {
	text := v.Help
	if v.Default != "" && !v.IsBool() && v.Flag != nil {
		text = fmt.Sprintf("%s [%s]", text, v.Default)
	}
	if len(v.Tag.Envs) > 0 {
		text = fmt.Sprintf("%s [$%s]", text, v.Tag.Envs[0])
	}
	return text
}

// commandOf returns the command that a wrong command line meant, for a hint at that
// command's help.
func commandOf(ctx *kong.Context) string {
	if ctx == nil {
		return ""
	}
	if node := ctx.Selected(); node != nil {
		return node.Path()
	}
	return ""
}

// program returns how the user calls this program, quoted for a shell.
func program() string {
	if len(os.Args) == 0 || os.Args[0] == "" {
		return "pim"
	}
	return quote(os.Args[0])
}
