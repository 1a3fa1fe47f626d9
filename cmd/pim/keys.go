package main

import (
	"errors"
	"io/fs"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
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

// load reads the keys. It makes none: one that the server does not know would
// be of no use.
func (f *keyFlags) load() (*account.Keys, error) {
	path := f.path()
	keys, err := account.LoadKeys(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &hintedError{
			pim.Errorf(pim.KindInvalid, "there is no key file %s", path),
			"start a server there first, as with `make run`, or name its directory with --data",
		}
	}
	return keys, err
}

// issue returns a token for user.
func (f *keyFlags) issue(user pim.UserID, ttl time.Duration, now time.Time) (string, error) {
	keys, err := f.load()
	if err != nil {
		return "", err
	}
	return keys.Issue(user, ttl, now)
}
