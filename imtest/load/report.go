package load

import (
	"fmt"
	"strings"

	"github.com/pim-im/pim"
)

// Report is what a run measured. The JSON names are stable. Times in
// milliseconds are 0 if nothing was measured; percentiles are exact to 1 %.
type Report struct {
	Workload      Workload `json:"workload"`
	Users         int      `json:"users"`                   // connections
	Window        int      `json:"window"`                  // 0 at a fixed rate
	Conversations int      `json:"conversations,omitempty"` // in which the users talk
	Senders       int      `json:"senders,omitempty"`       // users who send, over all conversations
	OneWay        bool     `json:"one_way,omitempty"`       // half of the users only receive

	Sent          uint64  `json:"sent"`            // messages transmitted in the measured time
	Delivered     uint64  `json:"delivered"`       // how often one of the sent messages reached a receiver
	Lost          uint64  `json:"lost"`            // deliveries of acknowledged messages that never came, warm-up included
	DeliveredPerS float64 `json:"delivered_per_s"` // in the measured time; Fill: messages acknowledged a second

	AckP50       float64 `json:"ack_p50_ms"` // transmission to the sender's read of the acknowledgement
	AckP99       float64 `json:"ack_p99_ms"`
	AckP999      float64 `json:"ack_p999_ms"`
	DeliveryP50  float64 `json:"delivery_p50_ms"` // transmission to the receiver's read
	DeliveryP99  float64 `json:"delivery_p99_ms"`
	DeliveryP999 float64 `json:"delivery_p999_ms"`

	// ServerCPU is the server's CPU seconds per 1,000 deliveries, both from
	// the start of the measured time to the end of the drain.
	ServerCPU          float64 `json:"server_cpu_s_per_1000"`
	ServerRSS          int64   `json:"server_rss_bytes"`     // at the end
	BytesPerConnection float64 `json:"bytes_per_connection"` // growth of the server's RSS until all were open (Idle: until the end), for each

	// Idle only, for runs of half a minute and longer: BytesPerConnection at several
	// times, and the highest that was seen in a look every five seconds.
	MemoryCurve           []MemoryPoint `json:"memory_curve,omitempty"`
	MaxBytesPerConnection float64       `json:"max_bytes_per_connection,omitempty"`

	Doubled    uint64  `json:"doubled"`     // entries that a receiver was handed again, or messages written twice
	Misordered uint64  `json:"misordered"`  // entries that came after a later one
	Refused    uint64  `json:"refused"`     // sends that the server answered with an error
	TurnedAway uint64  `json:"turned_away"` // connections that were refused, or ended before their session was open, and were tried again
	Unacked    uint64  `json:"unacked"`     // sends that were never answered
	Skipped    uint64  `json:"skipped"`     // fixed rate: messages due but not transmitted, since too many were unanswered
	Pulled     uint64  `json:"pulled"`      // entries that came by a pull
	Rate       float64 `json:"rate"`        // messages a second asked for; 0 in the closed loop
	Insist     bool    `json:"insist,omitempty"`
	Payload    int     `json:"payload"` // bytes in a message
	Seconds    float64 `json:"seconds"` // length of the measured time
	ClientCPU  float64 `json:"client_cpu_s_per_1000"`

	// With Insist, in the measured time: OfferedPerS were due a second. Of these, SkippedPerS were not sent, since the user had as
	// many without an answer as the server allows, and RefusedPerS were refused.
	OfferedPerS float64 `json:"offered_per_s,omitempty"`
	RefusedPerS float64 `json:"refused_per_s,omitempty"`
	SkippedPerS float64 `json:"skipped_per_s,omitempty"`

	FramesPerRead  float64 `json:"frames_per_read,omitempty"`  // mean number of frames that one read brought in
	EntriesPerPush float64 `json:"entries_per_push,omitempty"` // mean number of entries in a PIMPush
	LagP99         float64 `json:"lag_p99_ms,omitempty"`       // fixed rate: how late the generator itself transmitted
	ServerCPUTotal float64 `json:"server_cpu_s"`               // over the measured time and the drain
	ConnectSeconds float64 `json:"connect_s"`                  // to open all connections

	// The measured time in slices, and the worst of them.
	Slices      []Slice `json:"slices,omitempty"`
	SlowestPerS float64 `json:"slowest_slice_per_s,omitempty"`          // fewest deliveries a second
	DearestCPU  float64 `json:"dearest_slice_cpu_s_per_1000,omitempty"` // most CPU of the server for 1,000 deliveries

	*FirstMessages // Cold only

	// Sync only. Bytes are those of the frames, in both directions.
	SyncFirstPageBytes int64   `json:"sync_first_page_bytes,omitempty"` // PIMSyncReq and the first PIMSyncResp
	SyncFirstPageMS    float64 `json:"sync_first_page_ms,omitempty"`
	SyncListBytes      int64   `json:"sync_list_bytes,omitempty"` // all pages
	SyncListMS         float64 `json:"sync_list_ms,omitempty"`
	SyncBytes          int64   `json:"sync_bytes,omitempty"` // all pages, and the pulls of what they do not settle
	SyncMS             float64 `json:"sync_ms,omitempty"`    // from the first PIMSyncReq to the last entry
	ReconnectBytes     int64   `json:"reconnect_bytes,omitempty"`
	ReconnectMS        float64 `json:"reconnect_ms,omitempty"` // of the last: dialing to last PIMSyncResp, with nothing new
	*Again
}

// Incomplete returns an error if the run shows too little: nothing was sent, sends were
// never answered (then "nothing was lost" says little), a Fill or Cold had sends refused,
// or the memory of an idle server shrank.
func (r *Report) Incomplete() error {
	switch {
	case r.Unacked > 0:
		return pim.Errorf(pim.KindTimeout, "%s: %d sends were never answered", r.Workload, r.Unacked)
	case r.Refused > 0 && (r.Workload == Fill || r.Workload == Cold):
		return pim.Errorf(pim.KindUnavailable, "%s: %d sends were refused, so that not all conversations have what they should", r.Workload, r.Refused)
	case r.Sent == 0 && r.Workload != Idle:
		return pim.Errorf(pim.KindInvalid, "%s: nothing was sent in the measured time; make it longer, or the rate higher", r.Workload)
	case r.Workload == Idle && r.BytesPerConnection < 0:
		return pim.Errorf(pim.KindInvalid, "%s: the server's memory has shrunk meanwhile; measure one that was just started", r.Workload)
	}
	return nil
}

// Err returns an error if the run showed a broken promise: anything lost,
// doubled or misordered.
func (r *Report) Err() error {
	var broken []string
	for _, x := range []struct {
		what string
		n    uint64
	}{{"lost", r.Lost}, {"doubled", r.Doubled}, {"misordered", r.Misordered}} {
		if x.n > 0 {
			broken = append(broken, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	if broken == nil {
		return nil
	}
	return pim.Errorf(pim.KindInternal, "%s: %s", r.Workload, strings.Join(broken, ", "))
}
