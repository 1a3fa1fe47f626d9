package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
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
	// kong validates resolvers before it knows of this one.
	if err := settings.Validate(ctx.Model); err != nil {
		return err
	}
	ctx.AddResolver(settings)
	return nil
}

// settings are the configuration file's values, written as on the command
// line, under the names of flags.
type settings struct {
	path   string
	values map[string]string
}

func readSettings(path string) (*settings, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	raw := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	err = dec.Decode(&raw)
	if errors.As(err, new(*json.UnmarshalTypeError)) || err == nil && raw == nil {
		return nil, fmt.Errorf("configuration file %s: it must hold one JSON object", path)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	if dec.More() {
		return nil, fmt.Errorf("configuration file %s: more than one JSON object", path)
	}
	s := &settings{path, make(map[string]string, len(raw))}
	for name, value := range raw {
		switch v := value.(type) {
		case string:
			s.values[name] = v
		case json.Number:
			s.values[name] = v.String()
		case bool:
			s.values[name] = fmt.Sprint(v)
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
	return value, nil
}
