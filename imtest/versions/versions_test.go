package versions

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/link/linkpb"
	"github.com/pim-im/pim/home/homepb"
	"github.com/pim-im/pim/route/routepb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// files have the messages that nodes send each other.
var files = []protoreflect.FileDescriptor{
	linkpb.File_link_proto, routepb.File_route_proto, homepb.File_home_proto,
}

// folder has a file for each message, "pim.home.Push-1.txt": a line with its bytes in hexadecimal, and lines that say
// what they mean. What is there is never changed. A message that has got more fields gets one more file.
const folder = "testdata"

// Today's code reads from the bytes of earlier versions what those wrote, and the numbers of kinds and roles are what they
// were.
func TestEarlierVersionsAreUnderstood(t *testing.T) {
	seen := map[string]bool{} // fields, by their full names
	for _, path := range golden(t) {
		name, _, _ := strings.Cut(filepath.Base(path), "-")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		hexed, want, _ := strings.Cut(string(text), "\n")
		data, err := hex.DecodeString(hexed)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		m := message(t, name)
		if err := m.UnmarshalVT(data); err != nil {
			t.Errorf("%s is not read any more: %v", path, err)
			continue
		}
		if got := tell(m.ProtoReflect(), "", seen); got != want {
			t.Errorf("%s means something else than it did:\n%s\nand not\n%s", path, got, want)
		}
	}
	var missing []string
	for _, m := range messages() {
		if !slices.ContainsFunc(all(m.Fields()), func(f protoreflect.FieldDescriptor) bool { return !seen[string(f.FullName())] }) {
			continue
		}
		if os.Getenv("PIM_UPDATE") != "1" {
			missing = append(missing, string(m.FullName()))
			continue
		}
		write(t, m)
	}
	if len(missing) > 0 {
		t.Errorf("%s have fields of which no bytes are kept: run PIM_UPDATE=1 go test ./imtest/versions and commit the files", strings.Join(missing, ", "))
	}
}

// The numbers of kinds, roles and enumerations are never used again for something else.
func TestNumbers(t *testing.T) {
	kinds := []string{
		1: "submit", 2: "answer", 3: "publish", 4: "push", 5: "join", 6: "leave", 7: "announce", 8: "replace", 9: "behind", 10: "hint", 11: "status", 12: "joined",
	}
	for n, name := range kinds {
		if n > 0 && bus.Kind(n).String() != name {
			t.Errorf("kind %d is %s and was %s", n, bus.Kind(n), name)
		}
	}
	for n := len(kinds); n < 256; n++ { // those that came later
		if slices.Contains(kinds, bus.Kind(n).String()) {
			t.Errorf("kind %d has the name of an earlier one, %s", n, bus.Kind(n))
		}
	}
	if got := bus.Role(1 | 2 | 4 | 8).String(); got != "gateway,writer,home,lbs" {
		t.Errorf("the roles are %s", got)
	}
	types := []string{"UNSPECIFIED", "BEAT", "MARK", "MESSAGE", "REQUEST", "ANSWER", "CANCEL", "LEAVE"}
	for n, name := range types {
		if got := linkpb.Type(n).String(); got != "TYPE_"+name {
			t.Errorf("type %d is %s and was %s", n, got, name)
		}
	}
	for n, name := range []string{"NONE", "TOO_MANY", "OLDER", "FULL"} {
		if got := homepb.Refusal(n).String(); got != "REFUSAL_"+name {
			t.Errorf("refusal %d is %s and was %s", n, got, name)
		}
	}
}

// A message of a later version, with a field that nobody knows in each message of it, means the same.
func TestLaterFieldsAreSkipped(t *testing.T) {
	for _, m := range messages() {
		told := fill(m)
		want := tell(told.ProtoReflect(), "", map[string]bool{})
		later(told.ProtoReflect())
		data, err := proto.Marshal(told)
		if err != nil {
			t.Fatal(err)
		}
		got := message(t, string(m.FullName()))
		if err := got.UnmarshalVT(data); err != nil {
			t.Errorf("%s of a later version is not read: %v", m.FullName(), err)
			continue
		}
		if got := tell(got.ProtoReflect(), "", map[string]bool{}); got != want {
			t.Errorf("%s of a later version means\n%s\nand not\n%s", m.FullName(), got, want)
		}
	}
}

// golden returns the files.
func golden(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*-*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// write keeps the bytes of a message with all its fields, in a file that is not there yet.
func write(t *testing.T, m protoreflect.MessageDescriptor) {
	t.Helper()
	full := fill(m)
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	text := hex.EncodeToString(data) + "\n" + tell(full.ProtoReflect(), "", map[string]bool{})
	for n := 1; ; n++ {
		path := filepath.Join(folder, fmt.Sprintf("%s-%d.txt", m.FullName(), n))
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if os.IsExist(err) {
			continue
		}
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
}

func messages() (list []protoreflect.MessageDescriptor) {
	for _, f := range files {
		for i := range f.Messages().Len() {
			list = append(list, f.Messages().Get(i))
		}
	}
	return list
}

// all returns fields by their numbers.
func all(fields protoreflect.FieldDescriptors) (list []protoreflect.FieldDescriptor) {
	for i := range fields.Len() {
		list = append(list, fields.Get(i))
	}
	slices.SortFunc(list, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number() - b.Number()) })
	return list
}

// readable is a message that the nodes' own decoder reads.
type readable interface {
	proto.Message
	UnmarshalVT(data []byte) error
}

// message returns an empty message of today's code.
func message(t *testing.T, name string) readable {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		t.Fatalf("there is no message %s any more", name)
	}
	return kind.New().Interface().(readable)
}

// fill returns a message each of whose fields has a value that follows from its number.
func fill(d protoreflect.MessageDescriptor) proto.Message {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(err) // it comes from the registry
	}
	m := kind.New()
	for _, f := range all(d.Fields()) {
		n := uint64(f.Number()) * 1001
		var v protoreflect.Value
		switch f.Kind() {
		case protoreflect.MessageKind:
			v = protoreflect.ValueOfMessage(fill(f.Message()).ProtoReflect())
		case protoreflect.BoolKind:
			v = protoreflect.ValueOfBool(true)
		case protoreflect.StringKind:
			v = protoreflect.ValueOfString(fmt.Sprintf("text %d", n))
		case protoreflect.BytesKind:
			v = protoreflect.ValueOfBytes(fmt.Appendf(nil, "bytes %d", n))
		case protoreflect.EnumKind:
			values := f.Enum().Values()
			v = protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number())
		case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
			v = protoreflect.ValueOfUint32(uint32(n))
		case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
			v = protoreflect.ValueOfUint64(n << 32)
		case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
			v = protoreflect.ValueOfInt32(-int32(n))
		case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
			v = protoreflect.ValueOfInt64(-int64(n) << 32)
		default:
			panic("a field of a kind that no message had so far: " + string(f.FullName()))
		}
		if !f.IsList() {
			m.Set(f, v)
			continue
		}
		list := m.Mutable(f).List()
		list.Append(v)
		list.Append(v)
	}
	return m.Interface()
}

// later adds a field of a later version to a message and to those in it.
func later(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Kind() != protoreflect.MessageKind:
		case f.IsList():
			for i := range v.List().Len() {
				later(v.List().Get(i).Message())
			}
		default:
			later(v.Message())
		}
		return true
	})
	m.SetUnknown(append(m.GetUnknown(), 0xfa, 0x7f, 3, 'n', 'e', 'w')) // field 2047, of three bytes
}

// tell says what a message means: a line for each field that is set, by number and by name. It notes the fields in seen.
func tell(m protoreflect.Message, indent string, seen map[string]bool) string {
	var b strings.Builder
	for _, f := range all(m.Descriptor().Fields()) {
		if !m.Has(f) {
			continue
		}
		seen[string(f.FullName())] = true
		values := []protoreflect.Value{m.Get(f)}
		if f.IsList() {
			values = nil
			for i := range m.Get(f).List().Len() {
				values = append(values, m.Get(f).List().Get(i))
			}
		}
		for _, v := range values {
			switch f.Kind() {
			case protoreflect.MessageKind:
				fmt.Fprintf(&b, "%s%s:\n%s", indent, f.Name(), tell(v.Message(), indent+"  ", seen))
			case protoreflect.EnumKind:
				fmt.Fprintf(&b, "%s%s: %s\n", indent, f.Name(), f.Enum().Values().ByNumber(v.Enum()).Name())
			case protoreflect.BytesKind:
				fmt.Fprintf(&b, "%s%s: %q\n", indent, f.Name(), v.Bytes())
			default:
				fmt.Fprintf(&b, "%s%s: %v\n", indent, f.Name(), v.Interface())
			}
		}
	}
	return b.String()
}
