package avalanche

import "time"

// Report is what a run has come to. The names of its fields in JSON are stable. Counts are of clients, whatever the cohorts.
type Report struct {
	Clients   int    `json:"clients"`
	Sites     int    `json:"sites"`
	Cohort    int    `json:"cohort"`
	Capacity  int    `json:"capacity"`
	Accept    int    `json:"accept_rate"`
	Seed      uint64 `json:"seed"`
	Policy    string `json:"policy"`
	Admission bool   `json:"admission"`

	Lost      int `json:"lost"`      // connections that clients have lost
	Falls     int `json:"falls"`     // of sites under their load; those that were to die are not counted
	Attempts  int `json:"attempts"`  // to connect, that have reached a site or were swallowed by a dead one
	Refused   int `json:"refused"`   // of these, by a site
	Questions int `json:"questions"` // to LBS
	Unheard   int `json:"unheard"`   // of these, refused because too many come

	MostOut     int     `json:"most_out"`          // clients that were not connected
	MostLoad    float64 `json:"most_load"`         // connections of a site, as a part of its capacity
	MostLetIn   int     `json:"most_let_in_s"`     // connections that one site has let in within a second
	MostOffered int     `json:"most_attempts_s"`   // to one site that was up, within a second
	MostAsked   int     `json:"most_questions_s"`  // to all LBS
	MostBehind  float64 `json:"most_behind_s"`     // for how long work has waited for the CPU of a site
	Back50      float64 `json:"back_half_s"`       // when half of those that were out at most were back for good, after the first death; -1: not in the run
	Back99      float64 `json:"back_99_percent_s"` // likewise
	Back        float64 `json:"back_all_s"`        // likewise
	OutAtEnd    int     `json:"out_at_end"`

	Series []Second `json:"series"`
}

// Second is one second of a run.
type Second struct {
	Out       int      `json:"out"` // clients that are not connected at its end
	Questions int      `json:"questions"`
	Sites     []Moment `json:"sites"`
}

// Moment is a second of a site.
type Moment struct {
	Connections int `json:"connections"` // at its end, with those whose handshake is under way
	Attempts    int `json:"attempts"`
	Refused     int `json:"refused"`
	LetIn       int `json:"let_in"`
}

func (r *Report) begin(c *Config) {
	*r = Report{
		Clients: c.Clients / c.Cohort * c.Cohort, Sites: c.Sites, Cohort: c.Cohort, Capacity: c.Capacity, Accept: c.Accept,
		Seed: c.Seed, Policy: c.Policy.String(), Admission: c.Policy.Admission,
	}
}

// behind notes for how long work waits for a CPU.
func (r *Report) behind(d time.Duration) { r.MostBehind = max(r.MostBehind, d.Seconds()) }

// load notes how many connections a site has.
func (r *Report) load(connections, capacity int) {
	r.MostLoad = max(r.MostLoad, float64(connections)/float64(capacity))
}

// note adds the second that has passed.
func (w *world) note() {
	k, r := w.Cohort, &w.report
	s := Second{Questions: w.asked.questions * k, Out: (len(w.clients) - w.in) * k}
	for i := range w.sites {
		site := &w.sites[i]
		m := Moment{site.connections * k, site.second.attempts * k, site.second.refused * k, site.second.letIn * k}
		s.Sites = append(s.Sites, m)
		r.Attempts += m.Attempts
		r.Refused += m.Refused
		r.MostLetIn = max(r.MostLetIn, m.LetIn)
		if site.up {
			r.MostOffered = max(r.MostOffered, m.Attempts)
		}
		site.second = counts{}
	}
	r.Questions += s.Questions
	r.Unheard += w.asked.unheard * k
	r.MostOut, r.MostAsked = max(r.MostOut, s.Out), max(r.MostAsked, s.Questions)
	r.Series = append(r.Series, s)
	w.asked = asked{}
}

// sum adds what the whole run has come to.
func (w *world) sum() {
	r := &w.report
	r.OutAtEnd = r.Series[len(r.Series)-1].Out
	first := w.For
	for _, d := range w.Deaths {
		first = min(first, d.At)
	}
	r.Back50, r.Back99, r.Back = r.back(first, r.MostOut/2), r.back(first, r.MostOut/100), r.back(first, 0)
}

// back returns how many seconds after first no more than so many are out for good; -1: not in the run.
func (r *Report) back(first time.Duration, out int) float64 {
	last := len(r.Series)
	for last > 0 && r.Series[last-1].Out <= out {
		last--
	}
	if last == len(r.Series) {
		return -1
	}
	return max(0, float64(last+1)-first.Seconds())
}
