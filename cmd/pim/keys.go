package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/cmd/pim/chat"
	"github.com/pim-im/pim/server"
)

// keyFlags find the key that signs tokens. They have the names and variables of
// the server's settings, so that one environment serves both.
type keyFlags struct {
	Data string `name:"data" env:"PIM_DATA" default:"./pim-data" placeholder:"DIR" help:"Data directory of the server; the key that signs is in its keys.json."`
	Keys string `name:"keys" env:"PIM_KEYS" default:"" placeholder:"FILE" help:"Key file, if it is not there."`
}

func (f *keyFlags) path() string {
	return (&server.Config{Data: f.Data, Keys: f.Keys}).KeysPath()
}

// load reads the keys. It creates none: a key that the server does not know would
// be of no use.
func (f *keyFlags) load() (*account.Keys, error) {
	path := f.path()
	keys, err := account.LoadKeys(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &hintedError{
			pim.Errorf(pim.KindInvalid, "there is no key file %s", path),
			"start a server there first, as with `make run`, or name its directory with --data",
		}
	case wrongFile(err): // trying again does not help
		return nil, &hintedError{here(err), "name a file that you may read with --keys, or the directory of its server with --data"}
	case pim.KindOf(err) == pim.KindForbidden: // by this machine; no server has refused anything
		return nil, here(err)
	}
	return keys, err
}

// here returns err as an error about this machine (KindInvalid), not about a server's
// answer.
func here(err error) error {
	return &pim.Error{Kind: pim.KindInvalid, Text: chat.Plain(err), Err: err}
}

// ownTokenHint says what to do about a server that refused a token which was signed here
// a moment ago, or that could not be reached.
func (f *keyFlags) ownTokenHint(err error, server string) error {
	switch {
	case account.SaysTime(err):
		return &hintedError{err, fmt.Sprintf("it was issued a moment ago, so the clocks of this machine and of the server are more than %s apart; set the wrong one", account.Leeway)}
	case pim.KindOf(err) == pim.KindUnauthorized:
		return &hintedError{err, "the key in " + f.path() + " is not this server's; name its data directory with --data"}
	}
	return connectHint(err, server)
}

// issue returns a token for user.
func (f *keyFlags) issue(user pim.UserID, ttl time.Duration, now time.Time) (string, error) {
	keys, err := f.load()
	if err != nil {
		return "", err
	}
	return keys.Issue(user, ttl, now)
}
