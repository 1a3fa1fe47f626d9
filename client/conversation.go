package client

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/content"
)

// Conversation is a handle on one conversation. It is cheap, and holds nothing.
type Conversation struct {
	client *Client
	id     pim.ConversationID
}

// Conversation returns a handle on id. It does not check that the conversation exists.
func (c *Client) Conversation(id pim.ConversationID) *Conversation { return &Conversation{c, id} }

// Direct returns a handle on the direct conversation with user. It needs the client's
// own user, from Options.User or from an earlier connection.
func (c *Client) Direct(user pim.UserID) *Conversation {
	return c.Conversation(pim.Direct(c.User(), user))
}

// ID returns the conversation's ID.
func (c *Conversation) ID() pim.ConversationID { return c.id }

// errEmptyText refuses a text that says nothing.
var errEmptyText = pim.Errorf(pim.KindInvalid, "the text is empty")

// Send queues a message, see Client.Send.
func (c *Conversation) Send(ctx context.Context, payload []byte, options ...SendOption) (*Sending, error) {
	return c.client.Send(ctx, c.id, payload, options...)
}

// SendText queues a message whose payload is text. An empty text is refused
// (pim.KindInvalid).
func (c *Conversation) SendText(ctx context.Context, text string, options ...SendOption) (*Sending, error) {
	if text == "" {
		return nil, errEmptyText
	}
	return c.client.Send(ctx, c.id, []byte(text), options...)
}

// SendContent queues a message that says more than a text.
func (c *Conversation) SendContent(ctx context.Context, say *content.Content, options ...SendOption) (*Sending, error) {
	return c.client.SendContent(ctx, c.id, say, options...)
}

// Reply queues a message that answers the message to. It joins the thread that to is in.
// An empty text is refused (pim.KindInvalid).
func (c *Conversation) Reply(ctx context.Context, to *pim.Entry, text string, options ...SendOption) (*Sending, error) {
	if text == "" {
		return nil, errEmptyText
	}
	return c.client.SendContent(ctx, c.id, &content.Content{Text: text, Reply: content.ReplyTo(to), Thread: content.ThreadOf(to)}, options...)
}

// MarkRead says that the user has read everything that this device has heard of.
// It returns nil and no error if there is nothing to mark.
func (c *Conversation) MarkRead(ctx context.Context) (*Sending, error) {
	info, err := c.Info(ctx)
	if err != nil || info.Newest == 0 {
		return nil, err
	}
	return c.client.MarkRead(ctx, &pim.Entry{Conversation: c.id, Seq: info.Newest, Count: info.count})
}

// Open says that a person reads the conversation, until Close. While the app is in the foreground
// (Client.SetForeground), all that the device has of it is read, and so is what comes, at once:
// nothing of it is ever shown as unread, with a connection or without. The other devices are
// told about once a second. Open takes the mark of MarkUnread away. What the device has only heard of
// is not read before it has come: if the person leaves before that, it is unread.
// Several conversations may be open. A new Client has none.
//
// Errors: KindInvalid if the conversation's ID is not valid, or with Options.Watch; ErrClosed, and the
// failure of the store.
func (c *Conversation) Open(ctx context.Context) error {
	return c.client.inLoop(ctx, func() error {
		err := c.client.step(engine.Reading{Conversation: c.id, On: true})
		if err == nil {
			c.client.mu.Lock()
			c.client.reading[c.id] = true
			c.client.mu.Unlock()
		}
		return err
	})
}

// Close says that nobody reads the conversation any more. Errors are those of Open.
func (c *Conversation) Close(ctx context.Context) error {
	return c.client.inLoop(ctx, func() error {
		err := c.client.step(engine.Reading{Conversation: c.id})
		c.client.mu.Lock()
		delete(c.client.reading, c.id)
		c.client.mu.Unlock()
		return err
	})
}

// MarkUnread marks the conversation as unread, see Client.MarkUnread.
func (c *Conversation) MarkUnread(ctx context.Context) (*Sending, error) {
	return c.client.MarkUnread(ctx, c.id)
}

// Mute keeps the conversation from notifying, see Client.Mute.
func (c *Conversation) Mute(ctx context.Context, until time.Time) (*Sending, error) {
	return c.client.Mute(ctx, c.id, until)
}

// Unmute ends a Mute.
func (c *Conversation) Unmute(ctx context.Context) (*Sending, error) {
	return c.client.Unmute(ctx, c.id)
}

// Pin sets whether the conversation stays on top of the list.
func (c *Conversation) Pin(ctx context.Context, on bool) (*Sending, error) {
	return c.client.Pin(ctx, c.id, on)
}

// Leave queues that the user leaves the group.
func (c *Conversation) Leave(ctx context.Context) (*Sending, error) {
	return c.client.Leave(ctx, c.id)
}

// Accept queues that the user takes the invitation into the group, see Client.Invitations. Its end is Failed with
// pim.KindNotMember if the invitation has ended or nobody is left in the group, and with pim.KindTooLarge if the group is full.
func (c *Conversation) Accept(ctx context.Context) (*Sending, error) {
	user := c.client.User()
	if user == "" {
		return nil, errUserUnknown
	}
	return c.client.Join(ctx, c.id, user)
}

// Decline queues that the user does not take the invitation into the group. The group's members see it.
func (c *Conversation) Decline(ctx context.Context) (*Sending, error) { return c.Leave(ctx) }

// Info is what a list of conversations shows of one.
type Info struct {
	ID     pim.ConversationID
	Newest pim.Seq // newest seq that this device has heard of; 0: nothing yet
	Unread uint64  // messages after the last of: read position, own newest message, own joining
	// Mentions are those of the Unread that mention the user, by name or all. While a read position
	// within them waits for its answer, they may be more.
	Mentions uint64
	Last     pim.Entry // the newest entry, zero if it is not known
	// LastCut says that Last came from the server's list: its payload is cut, and
	// its device and client message ID are not known.
	LastCut bool
	Left    bool // the user is no longer a member; not of an invitation
	// Invited says that the user is invited into the group, by the sender of Last, and is no member. See Client.Invitations.
	Invited bool
	Marked  bool // as unread, by MarkUnread
	Muted   bool
	Pinned  bool
	Front   pim.Seq // retention has removed the entries before it, for good; 0: none

	goneAt pim.Millis // when the newest of them was written, if nothing is left
	count  uint64     // messages up to Newest, counted as in pim.Entry.Count
}

// Text returns the text that Last shows, see content.Preview.
func (i *Info) Text() string { return textOf(i.Last.Payload, i.LastCut) }

// Info returns what this device knows of the conversation. If the device has not heard
// of the conversation, Newest is 0.
func (c *Conversation) Info(ctx context.Context) (Info, error) {
	if err := c.client.usable(ctx); err != nil {
		return Info{}, err
	}
	row, err := c.client.store.Conversation(ctx, c.id)
	if err != nil {
		return Info{}, err
	}
	row.ID = c.id
	return c.client.info(row), nil
}

// Conversations returns what this device knows of every conversation: pinned ones
// first, and then by the time of the last entry, the newest first. A conversation whose
// entries have not come yet has the Last of the server's summary. The user's own log and
// Invitations are left out.
func (c *Client) Conversations(ctx context.Context) ([]Info, error) { return c.infos(ctx, false) }

// Invitations returns the groups into which others have invited the user, the newest invitation first. They come
// as other entries do, with an EntryEvent of a create or join that has the user in Invited. Conversation.Accept and Decline answer them;
// others just stay, until the group's owner takes them back. One whose entry retention has removed is not among them.
func (c *Client) Invitations(ctx context.Context) ([]Info, error) { return c.infos(ctx, true) }

// infos returns what this device knows of invitations, or of all else but the own log.
func (c *Client) infos(ctx context.Context, invited bool) ([]Info, error) {
	if err := c.usable(ctx); err != nil {
		return nil, err
	}
	rows, err := c.store.Conversations(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Info, 0, len(rows))
	for _, row := range rows {
		if _, own := row.ID.OwnUser(); own {
			continue
		}
		if info := c.info(row); info.Invited == invited {
			list = append(list, info)
		}
	}
	slices.SortFunc(list, func(a, b Info) int {
		if a.Pinned != b.Pinned {
			if a.Pinned {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.time(), a.time()), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// time returns when the newest entry was written, even if retention has removed it.
func (i *Info) time() pim.Millis { return max(i.Last.Time(), i.goneAt) }

func (c *Client) info(row ConversationRow) Info {
	now := pim.MillisOf(time.Now())
	about := func(kind pim.CommandKind) pim.Setting {
		entity := pim.Command{Kind: kind, Subject: string(row.ID)}
		return c.Setting(entity.Entity())
	}
	mute, pin, read, marked := about(pim.CommandMute), about(pim.CommandPin), about(pim.CommandRead), about(pim.CommandUnread)
	unread := row.Count - min(max(read.Count, row.OwnCount), row.Count)
	mentions := row.Since(row.OwnCount, row.OwnAll, pim.Mentioned{Named: read.Named, All: read.All})
	if c.isRead(row.ID) {
		unread, mentions = 0, 0
	}
	// Of what a user who is no member may read, the newest entry ended the membership, or invites.
	invited := row.Left && (row.Last.Kind == pim.EntryCreate || row.Last.Kind == pim.EntryJoin)
	return Info{
		ID: row.ID, Newest: row.Newest, Unread: unread, Mentions: mentions, Last: row.Last, LastCut: row.LastCut,
		Left: row.Left && !invited, Invited: invited, Marked: marked.InForce(0), Muted: mute.InForce(now), Pinned: pin.InForce(now), count: row.Count,
		Front: row.Front, goneAt: row.GoneAt,
	}
}

// isRead reports whether a person reads conv.
func (c *Client) isRead(conv pim.ConversationID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inFront && c.reading[conv]
}

// Setting returns the setting of an entity of the user's own log (pim.Command.Entity),
// commands in the outbox included. It is the zero Setting if no command names the entity.
func (c *Client) Setting(entity string) pim.Setting {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settings[entity]
}

// Settings returns the settings of all entities of the user's own log that are known on this device,
// sorted by entity, those included that are not in force (pim.Setting.InForce).
func (c *Client) Settings() []pim.Setting {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]pim.Setting, 0, len(c.settings))
	for _, entity := range slices.Sorted(maps.Keys(c.settings)) {
		list = append(list, c.settings[entity])
	}
	return list
}

// Contacts returns the user's contacts, sorted by user.
func (c *Client) Contacts() []pim.Setting {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []pim.Setting
	for _, s := range c.settings {
		if s.Kind == pim.CommandContact && s.InForce(0) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b pim.Setting) int { return cmp.Compare(a.Subject, b.Subject) })
	return list
}

// User returns the user of this device: Options.User, or the user that a connection
// has named; empty before that.
func (c *Client) User() pim.UserID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user
}
