package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/strictjson"

	"github.com/alecthomas/kong"
	"github.com/go-json-experiment/json/jsontext"
)

// configFile is the path in --config.
type configFile string

// BeforeResolve makes the file a source of flags. kong calls it once the flag's
// own value is known.
func (f configFile) BeforeResolve(ctx *kong.Context, path *kong.Path) error {
	name, _ := ctx.FlagValue(path.Flag).(configFile)
	if name == "" {
		return nil
	}
	settings, err := readSettings(string(name))
	if err != nil {
		return err
	}
	// kong has validated its resolvers before this one is added.
	if err := settings.Validate(ctx.Model); err != nil {
		return err
	}
	ctx.AddResolver(settings)
	return nil
}

// settings are the configuration file's values, under the names of flags.
type settings struct {
	path   string
	values map[string]setting
}

// setting is one value.
type setting struct {
	text string       // as on the command line
	kind reflect.Kind // String, Float64 or Bool, as it stands in the file
}

// fits reports whether a flag of kind target may have the value. A string may stand
// for every kind, as on the command line; "data": true does not name a directory.
func (s setting) fits(target reflect.Kind) bool {
	switch s.kind {
	case reflect.Bool:
		return target == reflect.Bool
	case reflect.Float64:
		return target != reflect.Bool && target != reflect.String && target != reflect.Slice
	}
	return true
}

// maxSettings is how many bytes a configuration file may have.
const maxSettings = 1 << 20

func readSettings(path string) (*settings, error) {
	data, err := account.ReadFile(path, maxSettings)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	raw := map[string]jsontext.Value{}
	if err := strictjson.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	if raw == nil {
		return nil, fmt.Errorf("configuration file %s: it must hold an object", path)
	}
	s := &settings{path, make(map[string]setting, len(raw))}
	for name, value := range raw {
		switch value.Kind() {
		case jsontext.KindString:
			text, err := jsontext.AppendUnquote(nil, value)
			if err != nil {
				return nil, fmt.Errorf("configuration file %s: %s: %w", path, name, err)
			}
			s.values[name] = setting{string(text), reflect.String}
		case jsontext.KindNumber:
			s.values[name] = setting{string(value), reflect.Float64}
		case jsontext.KindTrue, jsontext.KindFalse:
			s.values[name] = setting{string(value), reflect.Bool}
		default:
			return nil, fmt.Errorf("configuration file %s: %s must be a string, a number, true or false", path, name)
		}
	}
	return s, nil
}

// Validate refuses names that are no flag of any command: a misspelt setting
// must not be skipped in silence.
func (s *settings) Validate(app *kong.Application) error {
	known := []string{}
	err := kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok && flag.Name != "help" && flag.Name != "config" {
			known = append(known, flag.Name)
		}
		return next(nil)
	})
	var unknown []string
	for name := range s.values {
		if !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	if err == nil && len(unknown) > 0 {
		slices.Sort(unknown)
		err = errors.New("configuration file " + s.path + ": no such setting: " + strings.Join(unknown, ", "))
	}
	return err
}

// Resolve returns the file's value for a flag. kong asks for every flag that is
// not on the command line and would let the answer win over the environment,
// so a flag whose variable is set gets none.
func (s *settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := s.values[flag.Name]
	if !ok {
		return nil, nil
	}
	for _, name := range flag.Tag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	if !value.fits(flag.Target.Kind()) {
		return nil, fmt.Errorf("configuration file %s: %s must not be %s; write it as a string", s.path, flag.Name, value.text)
	}
	return value.text, nil
}
