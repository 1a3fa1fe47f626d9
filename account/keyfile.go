package account

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/strictjson"

	"github.com/go-json-experiment/json/jsontext"
)

const maxKeyFile = 1 << 20 // bytes in a key file

// keyFile is the file that LoadKeys reads; each key in it is a keyRecord.
// docs/keys.md describes it.
type keyFile struct {
	Keys []jsontext.Value `json:"keys"`
}

// LoadKeys reads a key file. If there is none, the error's chain holds fs.ErrNotExist.
// The file is refused as a whole if any key in it is wrong, if everyone may write it, or
// if it holds what signs tokens, belongs to the user of this process, and is open to
// others.
func LoadKeys(path string) (*Keys, error) {
	data, info, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, &pim.Error{Op: "key file " + path, Kind: pim.KindInvalid, Text: withoutKind(err), Err: err}
	}
	keys.path, keys.content = path, data
	if keys.signs() {
		warning, err := judgeMode(path, info)
		if err != nil {
			return nil, err
		}
		if warning != "" {
			keys.warnings = append(keys.warnings, warning)
		}
	}
	return keys, nil
}

func readKeyFile(path string) ([]byte, fs.FileInfo, error) {
	refused := func(kind pim.Kind, format string, args ...any) ([]byte, fs.FileInfo, error) {
		e := pim.Errorf(kind, format, args...)
		e.Op = "key file " + path
		return nil, nil, e
	}
	f, err := openNamed(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refused(pim.KindNotFound, "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return refused(pim.KindForbidden, "%w", err)
	case err != nil:
		return refused(pim.KindUnavailable, "%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return refused(pim.KindUnavailable, "%w", err)
	}
	if info.IsDir() {
		return refused(pim.KindInvalid, "it is a directory; name the file in it: %w", syscall.EISDIR)
	}
	if everyoneWrites(info) {
		return refused(pim.KindForbidden, "everyone may write it, and so become any user; run: chmod 600 %s", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return refused(pim.KindUnavailable, "%w", err)
	}
	if len(data) > maxKeyFile {
		return refused(pim.KindTooLarge, "longer than 1 MiB")
	}
	return data, info, nil
}

func parseKeys(data []byte) (*Keys, error) {
	var file keyFile
	if err := strictjson.Unmarshal(data, &file); err != nil {
		return nil, otherFormat(data, err)
	}
	if len(file.Keys) == 0 {
		return nil, errors.New(`it holds no keys; {"keys": [...]} is expected, see docs/keys.md`)
	}
	keys := &Keys{byID: make(map[string]*key, len(file.Keys))}
	for i, raw := range file.Keys {
		var r keyRecord
		err := strictjson.Unmarshal(raw, &r)
		if err != nil {
			err = otherFormat(raw, err)
		}
		var k *key
		if err == nil {
			k, err = r.key()
		}
		if err == nil && keys.byID[k.id] != nil {
			err = errors.New("its id is used twice")
		}
		if err != nil {
			return nil, fmt.Errorf("key %s: %s", nameOf(i, raw), withoutKind(err))
		}
		keys.byID[k.id] = k
		if k.dull {
			keys.warnings = append(keys.warnings, fmt.Sprintf("key %s: its secret repeats a few characters, and can be guessed; make one with: openssl rand -base64 32", nameOf(i, raw)))
		}
		if k.sign != nil && (keys.issuer == nil || k.created.After(keys.issuer.created)) {
			keys.issuer = k
		}
	}
	return keys, nil
}

// nameOf names the key at index i for people: by its place in the file, and by its
// id if that can be read.
func nameOf(i int, raw []byte) string {
	var r struct {
		ID string `json:"id"`
	}
	if strictjson.UnmarshalOpen(raw, &r) != nil || r.ID == "" {
		return fmt.Sprintf("%d", i+1)
	}
	return fmt.Sprintf("%d (%q)", i+1, r.ID)
}

// otherFormat returns an error that names the format of data if that is a known one
// other than ours; otherwise it returns err.
func otherFormat(data []byte, err error) error {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN ")) {
		return errors.New(`it is a PEM file; a JSON object with "keys" is expected, see docs/keys.md`)
	}
	var jwk struct {
		Type string `json:"kty"`
		Keys []struct {
			Type string `json:"kty"`
		} `json:"keys"`
	}
	if strictjson.UnmarshalOpen(data, &jwk) == nil {
		if jwk.Type != "" || len(jwk.Keys) > 0 && jwk.Keys[0].Type != "" {
			return errors.New(`it is in the form of a JWK ("kty", RFC 7517); "id", "alg" and base64 of PKIX or PKCS #8 are expected, see docs/keys.md`)
		}
	}
	return err
}

// withoutKind returns err's text without its kind, for a pim.Error that has its own.
func withoutKind(err error) string {
	if e, ok := err.(*pim.Error); ok {
		return e.Text
	}
	return err.Error()
}
