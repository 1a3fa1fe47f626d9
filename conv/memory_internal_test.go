package conv

import (
	"fmt"
	"testing"

	"github.com/pim-im/pim"
	"github.com/prometheus/client_golang/prometheus"
)

// A driver may use memory that the other drivers do not use. It gives the memory back when
// the others need their part.
func TestDriversShareTheirMemory(t *testing.T) {
	const drivers = 8
	const bound = 4 << 20
	shown := prometheus.NewRegistry()
	w := &Writers{metrics: NewMetrics(shown), memory: bound}
	use := func(d *driver, id string, weight int) {
		m := d.machine(pim.ConversationID(id))
		m.live, m.weight = &live{conversation: newConversation(m.id, 1)}, weight
		d.weight += weight
		d.shrink(&view{})
	}
	const large = bound / 4
	busy := newDriver(w, bound/drivers)
	w.drivers = append(w.drivers, busy)
	for i := range 6 {
		use(busy, fmt.Sprint("large", i), large)
	}
	if len(busy.machines) != 4 || busy.oldest.id != "large2" {
		t.Fatalf("the only driver in use holds %d conversations of a quarter of the bound", len(busy.machines))
	}
	var others []*driver
	for i := range drivers - 1 {
		s := newDriver(w, bound/drivers)
		others, w.drivers = append(others, s), append(w.drivers, s)
		for j := range 100 {
			use(s, fmt.Sprint("small", j), s.part/10)
		}
		if len(s.machines) != 10 {
			t.Errorf("driver %d holds %d conversations of a tenth of its part", i, len(s.machines))
		}
	}
	total := busy.weight
	for _, s := range others {
		total += s.weight
		select {
		case <-s.in.wake:
			t.Error("a driver within its part is woken")
		default:
		}
	}
	if total <= bound || total >= 2*bound {
		t.Errorf("%d of %d are used before the driver that has all has a turn", total, bound)
	}
	select {
	case <-busy.in.wake:
		busy.shrink(&view{})
	default:
		t.Error("the driver that holds more than its part is not woken")
	}
	use(busy, "small", 1)
	total = 0
	for _, s := range append(others, busy) {
		total += s.weight
	}
	if total > bound || len(busy.machines) != 1 {
		t.Errorf("%d of %d are used, %d conversations by the driver that had all", total, bound, len(busy.machines))
	}
	families, err := shown.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "pim_conversations_live_bytes" && int(f.Metric[0].GetGauge().GetValue()) != total {
			t.Errorf("the metric says %v; %d bytes are used", f.Metric[0].GetGauge(), total)
		}
	}
}

// Drivers whose conversations are all in use, as while the disk is stuck, do not wake each other: that
// would free nothing, and never end.
func TestDriversThatCanForgetNothingSleep(t *testing.T) {
	w := &Writers{metrics: NewMetrics(prometheus.NewRegistry()), memory: 1000}
	for range 2 {
		d := newDriver(w, 500)
		w.drivers = append(w.drivers, d)
		for i := range 3 {
			m := d.machine(pim.ConversationID(fmt.Sprint("g", i)))
			m.live, m.weight, m.batch = &live{conversation: newConversation(m.id, 1)}, 400, &batch{}
			d.weight += 400
		}
	}
	for range 10 {
		for i, d := range w.drivers {
			select {
			case <-d.in.wake:
				t.Fatalf("driver %d is woken", i)
			default:
			}
			d.shrink(&view{})
		}
	}
}
