package strictjson_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/strictjson"
)

type thing struct {
	Name  string    `json:"name"`
	Count int64     `json:"count"`
	When  time.Time `json:"when"`
	Parts []thing   `json:"parts"`
}

func TestUnmarshal(t *testing.T) {
	var x thing
	err := strictjson.Unmarshal([]byte(" {\"name\":\"\\ud83d\\ude42 z\u0308\",\"count\":7,\"parts\":[{\"name\":\"p\"},{}]}\n"), &x)
	if err != nil || x.Name != "🙂 z\u0308" || x.Count != 7 || len(x.Parts) != 2 || x.Parts[0].Name != "p" {
		t.Errorf("%+v, %v", x, err)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"nothing", "", "unexpected EOF"},
		{"half", `{"name":"a"`, "unexpected EOF"},
		{"another case", `{"Name":"a"}`, `byte 2: unknown field "Name"`},
		{"another case beside it", `{"name":"a","NAME":"b"}`, `unknown field "NAME"`},
		{"unknown", `{"nam":"a"}`, `unknown field "nam"`},
		{"a name that may be a secret", `{"` + strings.Repeat("x", 33) + `":"a"}`, `unknown field of 33 bytes`},
		{"unknown, far inside", `{"parts":[{},{"parts":[{"x":1}]}]}`, `unknown field "x" in /parts/1/parts/0`},
		{"twice", `{"name":"a","name":"b"}`, `field "name" stands twice`},
		{"twice, once escaped", `{"name":"a","n\u0061me":"b"}`, `field "name" stands twice`},
		{"not UTF-8", "{\"name\":\"a\xff\"}", "invalid UTF-8"},
		{"an overlong slash", "{\"name\":\"\xc0\xaf\"}", "invalid UTF-8"},
		{"an encoded surrogate", "{\"name\":\"\xed\xa0\x80\"}", "invalid UTF-8"},
		{"half a pair", `{"name":"\ud83d"}`, "invalid surrogate pair"},
		{"half a pair, then text", `{"name":"\ud83dx"}`, "invalid surrogate pair"},
		{"the other half", `{"name":"\ude42"}`, "invalid surrogate pair"},
		{"something behind", `{"name":"a"}]x`, "byte 13: something follows the value"},
		{"another value", `{"name":"a"} {"name":"b"}`, "something follows the value"},
		{"a byte order mark", "\ufeff{}", "byte order mark"},
		{"text for a number", `{"count":"7"}`, "a string stands where a whole number is expected in /count"},
		{"a fraction", `{"count":7.5}`, "a number stands where a whole number"},
		{"too large", `{"count":9223372036854775808}`, "value out of range"},
		{"a number for text", `{"name":7}`, "a number stands where a string is expected"},
		{"no date", `{"when":"yesterday"}`, "in /when"},
		{"on a line", "{\n\"name\":\"a\",\n\"x\":1\n}", "line 3: unknown field"},
		{"hex", `{"count":0x7}`, "invalid character"},
		{"a comma", `{"count":7,}`, "invalid character"},
		{"a comment", `{"count":7/* 8 */}`, "invalid character"},
		{"a NUL", "{\"name\":\"a\x00\"}", "invalid character"},
		{"an array for an object", "[]", "an array stands where an object is expected"},
		{"deep", strings.Repeat(`{"parts":[`, 1<<16), "exceeded max depth"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var x thing
			err := strictjson.Unmarshal([]byte(c.data), &x)
			if pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v (%s), want invalid with %q", err, pim.KindOf(err), c.want)
			}
		})
	}
}

func TestUnmarshalOpen(t *testing.T) {
	var x thing
	if err := strictjson.UnmarshalOpen([]byte(`{"name":"a","NAME":"b","other":{"x":[1]}}`), &x); err != nil || x.Name != "a" {
		t.Errorf("%+v, %v", x, err)
	}
	for _, bad := range []string{`{"name":"a","name":"b"}`, `{"x":{"y":1,"y":2}}`, "{\"x\":\"\xff\"}", `{"x":"\udc00"}`, "{} {}", "\ufeff{}"} {
		if err := strictjson.UnmarshalOpen([]byte(bad), &x); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzUnmarshal checks that accepted input is UTF-8, and that encoding/json, which is not
// strict, reads the same from it.
func FuzzUnmarshal(f *testing.F) {
	for _, s := range []string{`{"name":"a","count":7,"when":"2026-11-20T12:00:00Z","parts":[{"name":"\u00e9"}]}`, `{"name":"a","NAME":"b"}`, "\ufeff{}", `{}]x`, `{"name":"\ud83d\ude42"}`, "null", "{\"name\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var strict, open, loose thing
		if err := strictjson.Unmarshal(data, &strict); err != nil {
			if pim.KindOf(err) != pim.KindInvalid {
				t.Fatalf("%v is of kind %s", err, pim.KindOf(err))
			}
			return
		}
		if !utf8.Valid(data) || !utf8.ValidString(strict.Name) {
			t.Fatalf("%q was taken", data)
		}
		if err := strictjson.UnmarshalOpen(data, &open); err != nil || !reflect.DeepEqual(open, strict) {
			t.Fatalf("%q is %+v, and %+v when others may add names: %v", data, strict, open, err)
		}
		if err := json.Unmarshal(data, &loose); err != nil || loose.Name != strict.Name || loose.Count != strict.Count || len(loose.Parts) != len(strict.Parts) {
			t.Fatalf("%q is %+v to us and %+v to others: %v", data, strict, loose, err)
		}
	})
}
