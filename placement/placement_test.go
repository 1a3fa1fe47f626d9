package placement_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/placement"
	"pgregory.net/rapid"
)

// view returns a view of nodes of the given weights
func view(weights ...uint32) *bus.View {
	v := new(bus.View)
	for i, w := range weights {
		v.Nodes = append(v.Nodes, bus.Node{Name: fmt.Sprintf("node-%04d", i), Roles: bus.AllRoles, Weight: w})
	}
	return v
}

func keys(n int) []string {
	some := make([]string, n)
	for i := range some {
		some[i] = fmt.Sprintf("d:user%d:user%d", i, i+1)
	}
	return some
}

// A node that joins takes its share and moves nothing else, and one that leaves moves nothing but its share.
// A Table that follows from another one says the same as one that is made anew, and as Of.
func TestOnlyAShareMoves(t *testing.T) {
	some := keys(300)
	rapid.Check(t, func(t *rapid.T) {
		v := view(rapid.SliceOfN(rapid.Uint32Range(0, 4), 1, 40).Draw(t, "weights")...)
		table := placement.New(v, bus.RoleWriter)
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			was := make(map[string]string)
			for _, k := range some {
				was[k], _ = table.Of(k)
			}
			next := &bus.View{Nodes: slices.Clone(v.Nodes)}
			changed := make(map[string]bool)
			for range rapid.IntRange(1, 3).Draw(t, "nodes") {
				n := &next.Nodes[rapid.IntRange(0, len(next.Nodes)-1).Draw(t, "node")]
				changed[n.Name] = true
				switch rapid.SampledFrom([]string{"weight", "drain", "role"}).Draw(t, "change") {
				case "weight":
					n.Weight = rapid.Uint32Range(0, 4).Draw(t, "weight")
				case "drain":
					n.Draining = !n.Draining
				case "role":
					n.Roles ^= bus.RoleWriter
				}
			}
			v, table = next, table.Next(next)
			anew := placement.New(v, bus.RoleWriter)
			for _, k := range some {
				name, ok := table.Of(k)
				if other, alsoOK := anew.Of(k); name != other || ok != alsoOK {
					t.Fatalf("%s: %q by a table that follows, %q by a new one", k, name, other)
				}
				if other, alsoOK := placement.Of(v, bus.RoleWriter, k); name != other || ok != alsoOK {
					t.Fatalf("%s: %q by a table, %q by Of", k, name, other)
				}
				if n := v.Node(name); ok && (n == nil || n.Weight == 0 || n.Draining || !n.Roles.Has(bus.RoleWriter)) {
					t.Fatalf("%s is at %q, which takes no part", k, name)
				}
				if name != was[k] && !changed[name] && !changed[was[k]] && was[k] != "" {
					t.Fatalf("%s has moved from %q to %q, and neither has changed", k, was[k], name)
				}
			}
		}
	})
}

// Shares follow weights.
func TestSharesFollowWeights(t *testing.T) {
	const n = 200_000
	weights := []uint32{1, 2, 3, 0, 10, 100, 100, 250}
	total := 0.0
	for _, w := range weights {
		total += float64(w)
	}
	v := view(weights...)
	table := placement.New(v, bus.RoleHome)
	count := make(map[string]int)
	for _, k := range keys(n) {
		name, _ := table.Of(k)
		count[name]++
	}
	for i, w := range weights {
		want := n * float64(w) / total
		if got := float64(count[v.Nodes[i].Name]); math.Abs(got-want) > 5*math.Sqrt(want)+1 {
			t.Errorf("the node of weight %d has %.0f of %d keys, want %.0f", w, got, n, want)
		}
	}
}

// The share that a node with a new weight gains or loses is what the weights say: nothing moves to and fro.
func TestANewWeightMovesTheDifference(t *testing.T) {
	before, after := placement.New(view(100, 100, 100), bus.RoleWriter), placement.New(view(100, 150, 100), bus.RoleWriter)
	moved, all := 0, keys(50_000)
	for _, k := range all {
		a, _ := before.Of(k)
		b, _ := after.Of(k)
		if a == b {
			continue
		}
		if moved++; b != "node-0001" {
			t.Fatalf("%s has moved from %s to %s", k, a, b)
		}
	}
	want := float64(len(all)) * (150.0/350 - 100.0/300)
	if got := float64(moved); math.Abs(got-want) > 5*math.Sqrt(want) {
		t.Errorf("%.0f keys have moved, want %.0f", got, want)
	}
}

func TestNobodyHasTheRole(t *testing.T) {
	v := view(1, 1)
	v.Nodes[0].Roles, v.Nodes[1].Draining = bus.RoleGateway, true
	if name, ok := placement.New(v, bus.RoleWriter).Of("u:alice"); ok || name != "" {
		t.Errorf("%q has the key", name)
	}
	if _, ok := placement.Of(&bus.View{}, bus.RoleWriter, "u:alice"); ok {
		t.Error("a node of no view has the key")
	}
}

// A view in which only loads and addresses differ makes no new table.
func TestTheSameTable(t *testing.T) {
	v := view(1, 1)
	table := placement.New(v, bus.RoleWriter)
	next := &bus.View{Nodes: slices.Clone(v.Nodes)}
	next.Nodes[0].Load.Connections, next.Nodes[1].Address, next.Nodes[1].Run = 7, "ws://example", 3
	if table.Next(next) != table {
		t.Error("a table was made anew")
	}
}

// vector is one case of testdata/placement.json, which other programs can be held to as well.
type vector struct {
	Nodes []struct {
		Name   string `json:"name"`
		Weight uint32 `json:"weight"`
	} `json:"nodes"`
	Of map[string]string `json:"of"` // key → node
}

// Nodes of all versions agree. These vectors never change.
func TestVectors(t *testing.T) {
	const file = "testdata/placement.json"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	for i, c := range vectors {
		v := new(bus.View)
		for _, n := range c.Nodes {
			v.Nodes = append(v.Nodes, bus.Node{Name: n.Name, Weight: n.Weight, Roles: bus.RoleWriter})
		}
		if len(c.Of) == 0 {
			t.Errorf("vector %d names no key", i)
		}
		for key, want := range c.Of {
			if got, _ := placement.Of(v, bus.RoleWriter, key); got != want {
				t.Errorf("vector %d: %s is at %q, want %q", i, key, got, want)
			}
		}
	}
}

func BenchmarkOf(b *testing.B) {
	for _, nodes := range []int{5, 16, 100, 4000} {
		weights := slices.Repeat([]uint32{100}, nodes)
		table := placement.New(view(weights...), bus.RoleWriter)
		some := keys(1 << 16)
		rand.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			b.ReportAllocs()
			for _, k := range some {
				table.Of(k)
			}
			b.ResetTimer()
			for i := range b.N {
				table.Of(some[i&(len(some)-1)])
			}
		})
		b.Run(fmt.Sprintf("first/nodes=%d", nodes), func(b *testing.B) {
			v := view(weights...)
			for i := range b.N {
				placement.Of(v, bus.RoleWriter, some[i&(len(some)-1)])
			}
		})
	}
}

func BenchmarkNext(b *testing.B) {
	for _, nodes := range []int{5, 100, 4000} {
		v := view(slices.Repeat([]uint32{100}, nodes)...)
		joined := &bus.View{Nodes: append(slices.Clone(v.Nodes), bus.Node{Name: "node-9999", Roles: bus.AllRoles, Weight: 100})}
		table := placement.New(v, bus.RoleWriter)
		for _, k := range keys(1 << 20) {
			table.Of(k)
		}
		b.Run(fmt.Sprintf("joined/nodes=%d", nodes), func(b *testing.B) {
			for b.Loop() {
				table.Next(joined)
			}
		})
	}
}
