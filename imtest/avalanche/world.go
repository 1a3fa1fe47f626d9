package avalanche

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/lbs"
)

// world is a run.
type world struct {
	Config
	random *rand.Rand
	now    time.Duration
	due    *due

	clients []client
	in      int // clients that are connected and have not noticed otherwise
	sites   []site
	starts  []start // of sites that have fallen, in any order
	desks   []desk  // of the first sites
	said    []lbs.Gateway
	answers answers

	servers  [][]string // what the clients of each home know, in the order in which they try them
	lbs      []string   // where LBS are
	first    []engine.Answer
	standing event // the one that is played, if a transport stands

	asked  asked
	report Report
}

// start is a site that comes up again.
type start struct {
	site int
	at   time.Duration
}

// asked is how many questions have come in the second under way to all LBS, and how many of them were refused.
type asked struct{ questions, unheard int }

// Run plays c and returns what it has come to. The same Config has the same Report.
func Run(ctx context.Context, c Config) (*Report, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	w := newWorld(c)
	for w.now < c.For {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w.begins()
		end := w.now + time.Second
		for ; w.now < end; w.now += tick {
			m := moment(w.now)
			for e, ok := w.due.take(m); ok; e, ok = w.due.take(m) {
				w.play(e)
			}
		}
		w.note()
	}
	w.sum()
	return &w.report, nil
}

func newWorld(c Config) *world {
	w := &world{
		Config: c, random: rand.New(rand.NewPCG(c.Seed, 1)), due: newDue(c.For),
		clients: make([]client, c.Clients/c.Cohort), sites: make([]site, c.Sites),
	}
	for i := range w.sites {
		w.sites[i].index = i
		w.start(&w.sites[i])
	}
	for home := range c.Sites { // its own first, and then the next ones
		var list []string
		for i := range c.Sites {
			list = append(list, url((home+i)%c.Sites))
		}
		w.servers = append(w.servers, list)
	}
	for i := range w.clients {
		home := i % c.Sites
		w.clients[i] = client{site: uint8(home), home: uint8(home), in: true, using: 1, old: w.random.Float64() < c.Old}
		w.sites[home].connections++
	}
	w.in = len(w.clients)
	w.report.begin(&c)
	if c.Policy.LBS {
		w.desks = make([]desk, c.Balancers)
		w.tell()
		for i := range w.desks {
			w.opens(i)
			w.lbs = append(w.lbs, "https"+url(i)[len("wss"):])
		}
		for home := range c.Sites {
			w.first = append(w.first, w.firstAnswer(home))
		}
	}
	return w
}

// firstAnswer is what clients of a site were told when they came, one after the other.
func (w *world) firstAnswer(home int) engine.Answer {
	b := lbs.New(w.fork())
	b.Update(lbs.View{Gateways: slices.Clone(w.said)}, 0)
	return w.answerOf(b.Ask(lbs.Request{User: "first", Site: w.said[home].Site}, 0))
}

// fork returns a source of chance of its own, which follows from the seed.
func (w *world) fork() *rand.Rand { return rand.New(rand.NewPCG(w.random.Uint64(), w.random.Uint64())) }

// within returns a random time up to d.
func (w *world) within(d time.Duration) time.Duration {
	return time.Duration(w.random.Float64() * float64(d))
}

// begins does what happens at the beginning of a second: sites die and come back, and say what they are.
func (w *world) begins() {
	for _, d := range w.Deaths {
		if s := &w.sites[d.Site]; d.At == w.now && s.up {
			w.stop(s)
		}
	}
	slices.SortFunc(w.starts, func(a, b start) int { return cmp.Compare(a.site, b.site) })
	w.starts = slices.DeleteFunc(w.starts, func(s start) bool { return s.at <= w.now && w.comesUp(s.site) })
	for _, d := range w.Deaths {
		if d.Back != 0 && d.Back == w.now {
			w.comesUp(d.Site)
		}
	}
	w.tell()
}

// comesUp has a site start, unless it is up, or dark. It returns true.
func (w *world) comesUp(i int) bool {
	if s := &w.sites[i]; !s.up && !w.dark(i) {
		w.start(s)
		if i < len(w.desks) {
			w.opens(i)
		}
	}
	return true
}

// dark reports whether a site has died and not come back.
func (w *world) dark(i int) bool {
	return slices.ContainsFunc(w.Deaths, func(d Death) bool {
		return d.Site == i && d.At <= w.now && (d.Back == 0 || w.now < d.Back)
	})
}
