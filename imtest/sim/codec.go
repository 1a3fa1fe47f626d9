package sim

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// This file writes the inputs and outputs of an engine as transcripts have them, and
// reads them. The specification is client/testdata/transcripts/README.md. Field names
// are those of package engine in snake case; zero values are left out.

var (
	typeOfDuration = reflect.TypeFor[time.Duration]()
	typeOfID       = reflect.TypeFor[pim.ClientMessageID]()
	typeOfBytes    = reflect.TypeFor[[]byte]()
	typeOfError    = reflect.TypeFor[error]()
	typeOfMessage  = reflect.TypeFor[wire.Message]()

	// These are in outputs only: decode does not know them.
	typeOfState     = reflect.TypeFor[engine.State]()
	typeOfSendState = reflect.TypeFor[engine.SendState]()
)

const base64Prefix = "base64:"

// encode returns v in a form for json.Marshal, nil if v is zero.
func encode(v reflect.Value) any {
	if !v.IsValid() || v.IsZero() {
		return nil
	}
	switch v.Type() {
	case typeOfDuration:
		return float64(v.Int()) / float64(time.Millisecond)
	case typeOfID:
		return v.Interface().(pim.ClientMessageID).String()
	case typeOfBytes:
		return encodeBytes(v.Bytes())
	case typeOfError:
		if err, ok := v.Interface().(*pim.Error); ok && err.RetryAfter != 0 {
			return encodeStruct(reflect.ValueOf(*err)) // the time is heeded
		}
		return v.Interface().(error).Error()
	case typeOfMessage:
		return encodeMessage(v.Interface().(wire.Message))
	case typeOfState, typeOfSendState:
		return v.Interface().(fmt.Stringer).String()
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return encode(v.Elem())
	case reflect.Struct:
		return encodeStruct(v)
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			if list[i] = encode(v.Index(i)); list[i] == nil {
				list[i] = map[string]any{}
			}
		}
		return list
	case reflect.Func:
		return nil
	}
	return v.Interface()
}

func encodeStruct(v reflect.Value) any {
	fields := make(map[string]any)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		x := encode(v.Field(i))
		if x == nil {
			continue
		}
		if embedded, ok := x.(map[string]any); ok && f.Anonymous {
			for name, x := range embedded {
				fields[name] = x
			}
			continue
		}
		fields[snake(f.Name)] = x
	}
	return fields
}

func encodeBytes(b []byte) string {
	printable := utf8.Valid(b) && !strings.HasPrefix(string(b), base64Prefix) &&
		!strings.ContainsFunc(string(b), unicode.IsControl)
	if printable {
		return string(b)
	}
	return base64Prefix + base64.StdEncoding.EncodeToString(b)
}

func encodeMessage(m wire.Message) any {
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m.(proto.Message))
	var body any
	if err == nil {
		err = json.Unmarshal(data, &body) // protojson's spacing is random
	}
	if err != nil {
		panic("sim: encode a frame: " + err.Error()) // its fields are all of the simplest types
	}
	return map[string]any{string(m.(proto.Message).ProtoReflect().Descriptor().Name()): body}
}

// snake turns a field's name into its form in transcripts.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 && !unicode.IsUpper(rune(name[i-1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// decode sets v from x, which is what encode made, read back from JSON.
func decode(x any, v reflect.Value) error {
	if x == nil {
		return nil
	}
	switch v.Type() {
	case typeOfDuration:
		v.SetInt(int64(math.Round(x.(float64) * float64(time.Millisecond))))
		return nil
	case typeOfID:
		id, err := pim.ParseClientMessageID(x.(string))
		v.Set(reflect.ValueOf(id))
		return err
	case typeOfBytes:
		return decodeBytes(x.(string), v)
	case typeOfError:
		if text, ok := x.(string); ok {
			v.Set(reflect.ValueOf(errors.New(text)))
			return nil
		}
		err := new(pim.Error)
		v.Set(reflect.ValueOf(err))
		return decode(x, reflect.ValueOf(err).Elem())
	case typeOfMessage:
		return decodeMessage(x, v)
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return decode(x, v.Elem())
	case reflect.Struct:
		return decodeStruct(x.(map[string]any), v)
	case reflect.Slice:
		list := x.([]any)
		v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
		for i, x := range list {
			if err := decode(x, v.Index(i)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Bool:
		v.SetBool(x.(bool))
	case reflect.String:
		v.SetString(x.(string))
	default:
		if n := reflect.ValueOf(x.(float64)); n.CanConvert(v.Type()) {
			v.Set(n.Convert(v.Type()))
			return nil
		}
		return fmt.Errorf("cannot read %v as %s", x, v.Type())
	}
	return nil
}

func decodeBytes(s string, v reflect.Value) error {
	data := []byte(s)
	if rest, ok := strings.CutPrefix(s, base64Prefix); ok {
		var err error
		if data, err = base64.StdEncoding.DecodeString(rest); err != nil {
			return err
		}
	}
	v.SetBytes(data)
	return nil
}

func decodeMessage(x any, v reflect.Value) error {
	for name, body := range x.(map[string]any) {
		t, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("pim.v1." + name))
		if err != nil {
			return err
		}
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		m := t.New().Interface()
		if err := protojson.Unmarshal(data, m); err != nil {
			return err
		}
		v.Set(reflect.ValueOf(m))
	}
	return nil
}

func decodeStruct(fields map[string]any, v reflect.Value) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		x := fields[snake(f.Name)]
		if f.Anonymous {
			x = fields
		}
		if err := decode(x, v.Field(i)); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}
