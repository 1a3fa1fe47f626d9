package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/cmd/pim/chat"
)

// Exit statuses. docs/configuration.md lists them; scripts depend on them.
const (
	exitOK          = 0
	exitFailed      = 1   // anything else
	exitUsage       = 2   // the command line or a setting is wrong
	exitUnavailable = 3   // no server, or one that cannot answer now; trying again may help
	exitRefused     = 4   // the server will not do this for this user
	exitBroken      = 5   // replay, bench, migrate: something was lost, doubled, misordered or different
	exitInterrupted = 130 // ended by a signal, as shells say it
)

// exitStatuses are the exit statuses as docs/configuration.md shows them.
var exitStatuses = [...]struct {
	status int
	text   string
}{
	{exitOK, "done; for `replay` and `bench`: nothing was lost, doubled or misordered; for `migrate`: the stores are equal"},
	{exitFailed, "failed for a reason that no other status names; for `cluster status`: something is wrong"},
	{exitUsage, "the command line or a setting is wrong"},
	{exitUnavailable, "no server answers, its connection breaks off, or it cannot answer now; trying again may help"},
	{exitRefused, "the server does not let this user do this"},
	{exitBroken, "`replay` and `bench`: something was lost, doubled or misordered, or readers saw something else than they should; `migrate`: the stores are not equal"},
	{exitInterrupted, "ended by a signal"},
}

// errHelp ends a command line that asked for help, which has been printed.
var errHelp = errors.New("help was printed")

// errBroken ends a replay or a bench that found messages lost, doubled or
// misordered, or displayed or counted otherwise than they should be; its report says which.
var errBroken = errors.New("the server broke a promise")

// errUnequal ends a migration that found a difference; its report says which.
var errUnequal = errors.New("the stores are not equal")

// usageError is a wrong command line.
type usageError struct {
	err     error
	command string // empty if unknown
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// hintedError is an error and what to do about it.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() + ": " + e.hint }
func (e *hintedError) Unwrap() error { return e.err }

// errorJSON is the error that has ended a command, for scripts. The names are stable.
type errorJSON struct {
	Kind   string `json:"error_kind"`
	Error  string `json:"error"`
	Status int    `json:"status"`
}

// report prints an error, if there is one to print, as one line of JSON or for people, and returns
// its status.
func report(err error, w io.Writer, asJSON bool) int {
	status := statusOf(err)
	var usage *usageError
	switch {
	case err == nil, errors.Is(err, errHelp), errors.Is(err, context.Canceled):
		return status
	case asJSON:
		kind := pim.KindOf(err)
		if status == exitUsage && kind == pim.KindUnknown {
			kind = pim.KindInvalid
		}
		json.NewEncoder(w).Encode(errorJSON{kind.String(), chat.Plain(err), status})
		return status
	}
	// The error may quote a server or a file, which must not control the terminal.
	for text := range strings.SplitSeq(chat.Plain(err), "\n") {
		fmt.Fprintf(w, "pim: %s\n", chat.Printable(text))
	}
	if errors.As(err, &usage) {
		fmt.Fprintf(w, "See: %s --help\n", strings.TrimSpace("pim "+usage.command))
	}
	return status
}

func statusOf(err error) int {
	var usage *usageError
	switch {
	case err == nil, errors.Is(err, errHelp):
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errBroken), errors.Is(err, errUnequal):
		return exitBroken
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, syscall.ECONNREFUSED):
		return exitUnavailable
	}
	switch pim.KindOf(err) {
	case pim.KindInvalid, pim.KindTooLarge:
		return exitUsage
	case pim.KindUnauthorized, pim.KindForbidden, pim.KindNotMember, pim.KindNotFound, pim.KindConflict, pim.KindReplaced, pim.KindRevoked:
		return exitRefused
	case pim.KindOverloaded, pim.KindUnavailable, pim.KindDiskFull, pim.KindTimeout, pim.KindClockUnhealthy:
		return exitUnavailable
	}
	return exitFailed
}
