package wire

import (
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// section returns the text of one section of docs/protocol.md.
func section(t *testing.T, n int) string {
	t.Helper()
	doc, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(doc), fmt.Sprintf("\n## %d ", n))
	if !found {
		t.Fatalf("docs/protocol.md has no section %d", n)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// Nothing in the worked exchange is made up: each of its blocks of bytes is a whole
// frame of a vector, over one of the transports.
func TestExchangeIsVectorsOnly(t *testing.T) {
	var blocks []string // each frame's lines joined: a line that is indented further continues the one above
	hexLine := regexp.MustCompile(`(?m)^    ( *)([0-9a-f ]+)$`)
	for _, m := range hexLine.FindAllStringSubmatch(section(t, 14), -1) {
		bytes := strings.ReplaceAll(m[2], " ", "")
		if m[1] != "" && len(blocks) > 0 {
			blocks[len(blocks)-1] += bytes
			continue
		}
		blocks = append(blocks, bytes)
	}
	if len(blocks) == 0 {
		t.Fatal("the worked exchange shows no bytes")
	}
	known := map[string]bool{}
	for _, v := range makeVectors(t) {
		known[v.TCP], known[v.Client], known[v.Server] = true, true, true
	}
	for _, b := range blocks {
		if !known[b] {
			t.Errorf("%s is of no vector", b)
		}
		if _, err := hex.DecodeString(b); err != nil {
			t.Errorf("%s: %v", b, err)
		}
	}
}

// Section 4 names every field of every body with its number.
func TestDocumentNamesEveryField(t *testing.T) {
	text := section(t, 4)
	bodies := new(wirepb.Entry).ProtoReflect().Descriptor().ParentFile().Messages()
	for i := range bodies.Len() {
		body := bodies.Get(i)
		if body.Name() == "Ack" { // described within PIMPushAck
			continue
		}
		at := strings.Index(text, "**"+string(body.Name())+"**")
		if at < 0 {
			t.Errorf("%s is missing", body.Name())
			continue
		}
		// Up to the next name in bold at the start of a line, or the end.
		part := text[at:]
		if end := strings.Index(part, "\n**"); end > 0 {
			part = part[:end]
		}
		for n := range body.Fields().Len() {
			checkField(t, part, body.Fields().Get(n))
		}
	}
}

func checkField(t *testing.T, part string, f protoreflect.FieldDescriptor) {
	t.Helper()
	if !regexp.MustCompile(fmt.Sprintf(`\b%d\s+%s\b`, f.Number(), f.Name())).MatchString(part) {
		t.Errorf("%s: field %d %s is missing", f.ContainingMessage().Name(), f.Number(), f.Name())
	}
}

// Sections 3, 12 and 13 list the frame types, the kinds and the close codes as the code
// has them.
func TestDocumentListsKindsAndCodes(t *testing.T) {
	errors := section(t, 12)
	for k := pim.Kind(0); !strings.HasPrefix(k.String(), "kind_"); k++ {
		again := "no"
		if k.Retryable() {
			again = "yes"
		}
		if row := fmt.Sprintf("\n| %d | %s | %s |", k, k, again); !strings.Contains(errors, row) {
			t.Errorf("section 12 has no row%s", row)
		}
	}
	codes := section(t, 13)
	for c := range codeNames {
		if row := fmt.Sprintf("\n| %d | %s |", c, c); !strings.Contains(codes, row) {
			t.Errorf("section 13 has no row%s", row)
		}
	}
	frames := section(t, 3)
	for _, typ := range types {
		if row := fmt.Sprintf("\n| %d | %s |", typ, typ); !strings.Contains(frames, row) {
			t.Errorf("section 3 has no row%s", row)
		}
	}
}
