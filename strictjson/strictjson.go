// Package strictjson reads JSON that comes from outside: tokens, key files,
// configuration, scripts. It refuses input that two readers could understand in two ways
// (RFC 7493, I-JSON): a name that occurs twice, a name that differs from its field in
// upper or lower case, bytes that are not UTF-8, half of a surrogate pair, anything after
// the value, a byte order mark before it.
//
// It reads as encoding/json/v2 does, and uses the module that has that package until Go
// 1.27 does.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/pim-im/pim"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Unmarshal reads data, one JSON value, into what v points to. It refuses names for which
// v has no field. The error is a *pim.Error of KindInvalid. Its text says what is wrong
// and where in data; it does not say what data is, which the caller adds.
func Unmarshal(data []byte, v any) error {
	return unmarshal(data, v, json.RejectUnknownMembers(true))
}

// UnmarshalOpen is Unmarshal for values to which others may add names. It checks names
// for which v has no field like all others, and drops them.
func UnmarshalOpen(data []byte, v any) error { return unmarshal(data, v) }

var byteOrderMark = []byte("\xef\xbb\xbf")

func unmarshal(data []byte, v any, opts ...json.Options) error {
	if bytes.HasPrefix(data, byteOrderMark) {
		return pim.Errorf(pim.KindInvalid, "it begins with a byte order mark; write it as UTF-8 without one")
	}
	if err := json.Unmarshal(data, v, opts...); err != nil {
		return explain(err, data)
	}
	return nil
}

// explain returns the library's error in words for people, with the place in data.
func explain(err error, data []byte) error {
	text, at, in := err.Error(), int64(0), jsontext.Pointer("")
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(err, &syntax):
		text, in = syntaxText(syntax)
		at = syntax.ByteOffset
	case errors.As(err, &semantic):
		text, in = semanticText(semantic)
		at = semantic.ByteOffset
	}
	if in != "" {
		text += " in " + string(in)
	}
	return &pim.Error{Kind: pim.KindInvalid, Text: place(data, at) + ": " + text, Err: err}
}

// syntaxText returns what is wrong, and in which value.
func syntaxText(err *jsontext.SyntacticError) (string, jsontext.Pointer) {
	text := err.Err.Error()
	switch {
	case errors.Is(err.Err, jsontext.ErrDuplicateName):
		return fmt.Sprintf("field %s stands twice", fieldName(err.JSONPointer)), err.JSONPointer.Parent()
	case strings.Contains(text, "after top-level value"):
		text = "something follows the value"
	}
	return text, err.JSONPointer
}

// longestName is how many bytes of a name an error quotes. A longer one is no misspelt field, but may be a
// secret in the wrong place.
const longestName = 32

// fieldName returns the last name of p, quoted.
func fieldName(p jsontext.Pointer) string {
	name := p.LastToken()
	if len(name) > longestName {
		return fmt.Sprintf("of %d bytes", len(name))
	}
	return strconv.Quote(name)
}

// semanticText returns what is wrong, and in which value.
func semanticText(err *json.SemanticError) (string, jsontext.Pointer) {
	switch {
	case errors.Is(err.Err, json.ErrUnknownName):
		return fmt.Sprintf("unknown field %s", fieldName(err.JSONPointer)), err.JSONPointer.Parent()
	case err.GoType != nil && (err.Err == nil || errors.Is(err.Err, strconv.ErrSyntax)):
		return fmt.Sprintf("%s stands where %s is expected", kindName(err.JSONKind), typeName(err.GoType)), err.JSONPointer
	case err.Err != nil:
		return err.Err.Error(), err.JSONPointer
	}
	return kindName(err.JSONKind) + " is not expected", err.JSONPointer
}

func kindName(k jsontext.Kind) string {
	switch k {
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	}
	return k.String() // null, true, false
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number"
	}
	return t.String()
}

// place returns where in data the byte at offset at is: its line if data has several
// lines, otherwise its number, from 1.
func place(data []byte, at int64) string {
	at = min(at, int64(len(data)))
	if !bytes.Contains(bytes.TrimSpace(data), []byte("\n")) {
		return fmt.Sprintf("byte %d", at+1)
	}
	return fmt.Sprintf("line %d", 1+bytes.Count(data[:at], []byte("\n")))
}
