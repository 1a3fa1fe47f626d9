package conv

import (
	"math"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/wire"
)

// Request asks the Writers to append one entry. The Writers own it from Submit on until they
// have answered it.
type Request struct {
	Conversation pim.ConversationID // empty for EntryCreate, Submit sets it then
	Kind         pim.EntryKind
	Attempt      uint32     // as pim.Sending
	MentionAll   bool       // for message
	Removed      bool       // for reaction and pin
	repeatOnly   bool       // it is answered only if its entry is in the log already, see shed.go; set by Submit, and here because there is room
	wait         int32      // as pim.Sending; set by the machine. It stands here because there is room
	Sender       pim.UserID // authenticated
	Device       pim.DeviceID
	ClientID     pim.ClientMessageID
	Local        pim.Millis
	Age          pim.Millis   // as pim.Sending
	Came         time.Time    // when a server took it, with a monotonic reading; zero: not known. See pim.Sending.Wait
	Members      []pim.UserID // for create, join and leave
	Mentions     []pim.UserID // for message: whom it names; Submit drops repeated names
	Payload      []byte
	Refers       pim.Seq    // for edit, recall, reaction, pin and erase
	Reaction     string     // for reaction
	Retain       pim.Millis // for retain
	Origin       Origin     // to whom the answer goes; opaque to the Writers

	// Set by Submit.
	command *pim.Command // of an EntryCommand, decoded
	read    reading      // of a read command; a look-up may replace it
	queue   *userQueue   // of the sender, in the driver's queue
	drain   *drain       // the newest drain when the request came

	// Set by the machine, and by its look-up for the request.
	findings   *findings  // of a look-up for the request; nil: there was none
	searched   pim.Seq    // of an erase: below it, nothing is left that it erases; 0: nothing is known
	absentUpTo pim.Seq    // a look-up has found that no entry up to this seq has ClientID; 0: nothing is known
	loaded     bool       // the state was loaded after the request had come
	fenced     bool       // the log's fence was raised after that; no append of the request was in doubt since
	passed     bool       // of an erase: it has passed over edits that an erase before it will erase, see gone
	place      int32      // in the batch, in the order in which requests were stepped
	tries      tries      // in vain
	set        pim.Millis // as pim.Moment
}

// Origin is whatever the Outlet needs to find who sent a Request.
type Origin any

// Answer is the outcome of a Request.
type Answer struct {
	Request   *Request
	Err       error   // a *pim.Error; if it is set, the fields below are not
	Seq       pim.Seq // 0: of an erase by a user who has left the group; nothing of its entry is told
	Anchor    pim.Seq
	Count     uint64
	Server    pim.Millis
	Ahead     pim.Millis
	Order     pim.Millis
	AllCount  uint64
	Mentions  []uint64 // the entry's Mention.Count, in the order of its Mentions
	Duplicate bool     // an earlier transmission was appended; this is the answer to it
	Payload   []byte   // the entry's payload, if it differs from the Request's (read commands only)
}

// Published are the entries that one batch added to a conversation, and who is to be pushed
// which of them.
type Published struct {
	Conversation pim.ConversationID
	Entries      []Encoded    // ascending by seq
	Members      []pim.UserID // these read all of Entries; shared, must not be changed
	Partly       []Reader     // these joined or left within Entries, or were invited, or their invitation has ended
	// Read are the conversations of which others may see a new position of the user: those that
	// the read commands of an own log name, unless no-receipts is in force.
	Read []pim.ConversationID
	// Settings says that other commands of an own log took effect. Who may see the user, and whom
	// the user may see, may have changed.
	Settings bool
}

// Encoded is an encoded entry (see wire.AppendEntry), and who sent it.
type Encoded struct {
	Seq    pim.Seq
	Sender pim.UserID
	Device pim.DeviceID
	Data   []byte
}

// Reader is a user who reads the entries From to To only.
type Reader struct {
	User     pim.UserID
	From, To pim.Seq
}

// Outlet takes the answers, and the pushes of the entries that are durable. Each driver calls
// Deliver from its own goroutine, and Submit calls it in the caller's for requests that fail at
// once. Deliver must not block on a slow receiver, and must hand out the answers before the
// pushes of the same call. When it returns, the slices and the bytes in them belong to the
// Writers again.
type Outlet interface {
	Deliver(answers []Answer, pushes []Published)
}

// Submit hands requests to the drivers of their conversations. Each request is answered once,
// through the Outlet, also if it fails at once. Requests of one conversation are taken in the
// order given, but for an erase whose first message must be searched: those behind it overtake it. Submit blocks only for read commands, whose positions it reads from the store.
// If a queue is full, or sends are shed (Options.Overload), the answer is KindOverloaded.
func (w *Writers) Submit(requests []*Request) {
	var failed []Answer
	for len(requests) > 0 {
		r := requests[0]
		if err := w.check(r); err != nil {
			failed = append(failed, Answer{Request: r, Err: err})
			requests = requests[1:]
			continue
		}
		// A connection mostly sends to one conversation at a time: its requests are
		// handed over with one lock.
		n := 1
		for n < len(requests) && requests[n].Conversation == r.Conversation && w.check(requests[n]) == nil {
			n++
		}
		refused, err := w.driver(r.Conversation).in.put(requests[:n])
		for _, r := range refused {
			failed = append(failed, Answer{Request: r, Err: err})
		}
		requests = requests[n:]
	}
	if len(failed) > 0 {
		w.metrics.answered(failed)
		w.outlet.Deliver(failed, nil)
	}
}

// check validates r and, if r is a read command, looks its position up.
func (w *Writers) check(r *Request) error {
	if err := r.check(); err != nil {
		return err
	}
	if r.reads() {
		if w.overload.Sheds(limit.NewSends) && r.Attempt <= 1 && w.driver(r.Conversation).in.full() {
			w.overload.Shed(limit.NewSends, 1)
			return w.errBusy() // before the read
		}
		r.read = w.lookUpRead(r.Sender, r.command)
	}
	return nil
}

// check validates what can be validated without the conversation's state, and gives a create
// its conversation ID.
func (r *Request) check() error {
	if r.ClientID.IsZero() {
		return pim.Errorf(pim.KindInvalid, "the client message ID is missing")
	}
	if len(r.Payload) > pim.MaxPayload {
		return payloadTooLarge.tooLarge("a payload of %d bytes, at most %d are allowed", len(r.Payload), pim.MaxPayload)
	}
	if err := r.checkName(); err != nil {
		return err
	}
	if _, own := r.Conversation.OwnUser(); own != (r.Kind == pim.EntryCommand) {
		return pim.Errorf(pim.KindInvalid, "a user's own log takes commands, and nothing else does")
	}
	if err := r.checkRefers(); err != nil {
		return err
	}
	if err := r.checkMentions(); err != nil {
		return err
	}
	if err := r.checkRetain(); err != nil {
		return err
	}
	switch r.Kind {
	case pim.EntryEdit, pim.EntryRecall, pim.EntryReaction, pim.EntryPin, pim.EntryErase, pim.EntryRetain:
		return nil
	case pim.EntryMessage:
		if len(r.Members) > 0 {
			return pim.Errorf(pim.KindInvalid, "a message has no members")
		}
		return nil
	case pim.EntryCommand:
		return r.checkCommand()
	case pim.EntryCreate:
		if r.Conversation != "" {
			return pim.Errorf(pim.KindInvalid, "the server gives out a new group's ID, the request must not")
		}
		r.Conversation = pim.NewGroup(r.Sender, r.ClientID)
	case pim.EntryJoin, pim.EntryLeave:
		if !r.Conversation.IsGroup() {
			return pim.Errorf(pim.KindInvalid, "nobody joins or leaves a direct conversation")
		}
		if len(r.Members) == 0 && r.Kind == pim.EntryLeave {
			r.Members = []pim.UserID{r.Sender}
		}
		if len(r.Members) == 0 {
			return pim.Errorf(pim.KindInvalid, "a join names whom it adds")
		}
	default:
		return pim.Errorf(pim.KindUnsupported, "entry kind %d is not known", r.Kind)
	}
	for _, u := range r.Members {
		if err := u.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// checkName refuses a sender whom the conversation's ID alone excludes, so that a stranger
// can't make the node load other users' conversations.
func (r *Request) checkName() error {
	if r.Kind == pim.EntryCreate {
		return nil // it has no ID yet
	}
	if err := r.Conversation.Validate(); err != nil {
		return err
	}
	if r.Conversation.Excludes(r.Sender) {
		return notMember(r.Sender, r.Conversation)
	}
	return nil
}

func notMember(u pim.UserID, c pim.ConversationID) error {
	return pim.Errorf(pim.KindNotMember, "user %s is not a member of %s", u, c)
}

// moment returns the Moment of r's entry, if it is made at now.
func (r *Request) moment(now pim.Millis) pim.Moment { return pim.Moment{Now: now, Set: r.set} }

// sending returns what the sender says about the time of r.
func (r *Request) sending() pim.Sending {
	return pim.Sending{Local: r.Local, Attempt: r.Attempt, Age: r.Age, Wait: pim.Millis(r.wait)}
}

// waited sets for how long r has waited at the time at, which is that of the moment for which r is stepped or looked up.
func (r *Request) waited(at time.Time) {
	if r.wait = 0; !r.Came.IsZero() {
		r.wait = int32(min(max(0, at.Sub(r.Came).Milliseconds()), math.MaxInt32))
	}
}

// size returns how much memory r takes up, in bytes, about.
func (r *Request) size() int64 {
	const each, member = 512, 48
	return int64(each + len(r.Payload) + member*(len(r.Members)+len(r.Mentions)))
}

// reads reports whether r is a read command.
func (r *Request) reads() bool { return r.command != nil && r.command.Kind == pim.CommandRead }

// affects reports whether r has effects, see effects.go.
func (r *Request) affects() bool {
	return r.command != nil && affects(r.command.Kind) || r.Kind == pim.EntryErase
}

// TooManyMentions returns the error of a request that names so many users.
func TooManyMentions(users int) error {
	return tooManyMentions.tooLarge("a message that names %d users, at most %d are allowed", users, pim.MaxMentions)
}

func (r *Request) checkMentions() error {
	switch {
	case len(r.Mentions) == 0 && !r.MentionAll:
		return nil
	case r.Kind != pim.EntryMessage:
		return pim.Errorf(pim.KindInvalid, "a %s mentions nobody", r.Kind)
	case len(r.Mentions) > pim.MaxMentions:
		return TooManyMentions(len(r.Mentions))
	}
	for _, u := range r.Mentions {
		if err := u.Validate(); err != nil {
			return err
		}
	}
	r.Mentions = distinct(r.Mentions)
	return nil
}

func (r *Request) checkCommand() error {
	if len(r.Members) > 0 {
		return pim.Errorf(pim.KindInvalid, "a command has no members")
	}
	cmd, err := wire.ParseCommand(r.Payload)
	r.command = &cmd
	if err == nil && cmd.Kind.OfUser() && cmd.Subject != string(r.Sender) {
		err = pim.Errorf(pim.KindInvalid, "a user sets no %s for %s", cmd.Kind, cmd.Subject)
	}
	return err
}
