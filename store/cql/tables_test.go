package cql

import (
	"strings"
	"testing"

	"github.com/pim-im/pim"
)

func TestSettings(t *testing.T) {
	for says, set := range map[string]func(*settings){
		"":                             func(*settings) {},
		"default_time_to_live = 0":     func(s *settings) { s.lifetime = 1 },
		"gc_grace_seconds = 86400":     func(s *settings) { s.grace = 86399 },
		"read_repair = 'BLOCKING'":     func(s *settings) { s.readRepair = "NONE" },
		"compaction = {'class': 'Unif": func(s *settings) { s.compaction["unsafe_aggressive_sstable_expiration"] = "true" },
	} {
		s := settings{grace: 864000, readRepair: "BLOCKING", compaction: map[string]string{"class": "TimeWindowCompactionStrategy"}}
		set(&s)
		err := s.check("ks", &needs[0])
		if (err == nil) != (says == "") || err != nil && (pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), "ALTER TABLE ks.log WITH "+says)) {
			t.Errorf("want %q: %v", says, err)
		}
	}
	if err := (&settings{readRepair: "BLOCKING"}).check("ks", &need{table: "meta"}); err != nil {
		t.Errorf("nothing is deleted in meta: %v", err)
	}
}

func TestColumns(t *testing.T) {
	for says, change := range map[string]func(map[string]column){
		"":                                  func(map[string]column) {},
		" ":                                 func(c map[string]column) { c["added"] = column{"regular", -1, "text", "none"} },
		"has no table log any more":         func(c map[string]column) { clear(c) },
		"it has no column newest":           func(c map[string]column) { delete(c, "newest") },
		"column last is int regular":        func(c map[string]column) { c["last"] = column{"regular", -1, "int", "none"} },
		"column last is bigint static":      func(c map[string]column) { c["last"] = column{"static", -1, "bigint", "none"} },
		"is bigint clustering 0 desc":       func(c map[string]column) { c["last_seq"] = column{"clustering", 0, "bigint", "desc"} },
		"its key has the column more":       func(c map[string]column) { c["more"] = column{"clustering", 1, "bigint", "asc"} },
		"column part is bigint clustering ": func(c map[string]column) { c["part"] = column{"clustering", 0, "bigint", "asc"} },
	} {
		there := needs[0].columns()
		change(there)
		err := needs[0].compare("ks", there)
		if (err == nil) != (strings.TrimSpace(says) == "") || err != nil && (pim.KindOf(err) != pim.KindCorrupt || !strings.Contains(err.Error(), says)) {
			t.Errorf("want %q: %v", says, err)
		}
	}
}
