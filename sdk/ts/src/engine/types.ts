import {
  type ClientMessageID,
  type ConversationID,
  type DeviceID,
  type Entry,
  EntryKind,
  type Erasure as ErasureState,
  type Fold as FoldState,
  type Mentioned,
  type Millis,
  type PimError,
  type Retention,
  type Seq,
  type Setting as SettingState,
  type UserID,
} from "../pim/index.js";
import { noBytes } from "../pim/text.js";
import { type Duration } from "./duration.js";

/**
 * What the connection is doing:
 *
 * - connecting: dialling, or waiting for Welcome
 * - connected: Welcome has come
 * - waiting: not connected; the next attempt is set for later
 * - stopped: no further attempt will be made until Reconnect
 * - offline: the app wants no connection (Online), until it does
 */
export type State = "connecting" | "connected" | "waiting" | "stopped" | "offline";

/**
 * Where a message stands on its way to the server.
 *
 *     queued ──► sending ──► sent
 *                  │  ▲
 *                  ▼  │
 *                waiting ──► failed ──Resend──► queued
 *
 * - queued: stored, and not transmitted yet
 * - sending: transmitted; the answer is awaited
 * - waiting: the connection broke, or the server is busy: it will be sent again by itself
 * - sent: the server has it durably
 * - failed: it will not be sent again by itself: Resend or Discard
 * - superseded: a command that became pointless, mostly by a later one; it is gone
 * - discarded: given up by the app, or by the engine (SendEvent); it is gone
 *
 * A queued or failed message can be discarded; a queued command can be superseded by a later one.
 */
export type SendState = "queued" | "sending" | "waiting" | "sent" | "failed" | "superseded" | "discarded";

/** The server's answer to a message: the message is durable, at seq. */
export interface Sent {
  conversation: ConversationID; // for a create: the ID that the new group was given
  seq: Seq;
  anchor: Seq;
  server: Millis;
  ahead: Millis;
  order: Millis;
  count: number;
  allCount: number;
  duplicate: boolean; // an earlier transmission was appended; this is its answer
  /** Those whom the message names and who are not members: the mention reaches none of them. */
  strangers: UserID[];
}

/** What is handed to the app. */
export type Event =
  | EntryEvent
  | ChangedEvent
  | ErasedEvent
  | SendEvent
  | SettingEvent
  | ReceiptEvent
  | TypingEvent
  | PresenceEvent
  | LookEvent
  | ListEvent
  | ReadEvent
  | RefusedEvent
  | RewoundEvent
  | TrimmedEvent
  | StateEvent;

/**
 * Hands over one entry, the user's own messages included, and each at most once for a device's
 * storage. The entries of a conversation come in the order of their seqs, except those that fill a
 * hole: they are late, lie below entries that were handed over before, and come in any order. The
 * store shares the entry: do not change it.
 */
export interface EntryEvent {
  type: "entry";
  entry: Entry;
  late: boolean;
  /**
   * Counts the entries of the store in the order in which they were stored, from 1 on. It grows from
   * event to event, and is never given twice.
   */
  number: number;
}

/**
 * The stored fold of the message at seq may have changed: the message was edited, recalled or pinned,
 * somebody has reacted to it, or one of these was taken back. The message need not be stored.
 */
export interface ChangedEvent {
  type: "changed";
  conversation: ConversationID;
  seq: Seq;
}

/** What a user wrote in the conversation is erased up to a seq. The store has no payload of it any more. */
export interface ErasedEvent extends ErasureState {
  type: "erased";
  conversation: ConversationID;
}

/**
 * A message of the outbox has reached state. With "sent", "superseded", "discarded", and "failed" of a
 * command or of what refers to a message, the message has left the outbox; no other SendEvent follows
 * unless the server loses the message (RewoundEvent). The engine discards by itself the oldest of more
 * than 1,000 failed messages, and a join or leave that the server refuses when it is sent again after
 * a RewoundEvent.
 */
export interface SendEvent {
  type: "send";
  id: ClientMessageID;
  conversation: ConversationID; // empty for a create, until it is sent
  state: SendState;
  attempt?: number; // sending: transmissions so far, of this process
  retryIn?: Duration; // waiting: until it is sent again; none: when there is a connection
  sent?: Sent; // sent: the server's answer
  err?: PimError; // waiting and failed: why
  by?: ClientMessageID; // superseded: the command in its place, if there is one
}

/**
 * How far others have read a conversation that is looked at, see Look: of a group the messages among
 * its newest 50 entries.
 */
export interface ReceiptEvent {
  type: "receipt";
  conversation: ConversationID;
  receipts: Receipts;
}

/**
 * Others write in a conversation that is looked at. It holds for some seconds, or until their message
 * comes.
 */
export interface TypingEvent {
  type: "typing";
  conversation: ConversationID;
  users: UserID[];
}

/**
 * Says whether a user who is looked at is connected. With neither online nor seen nothing is known, or
 * nothing may be.
 */
export interface PresenceEvent {
  type: "presence";
  user: UserID;
  online: boolean;
  seen: Millis; // when the user was connected last, up to 5 minutes too early; 0 while online
}

/**
 * The server refuses some of what the last Look named. It may come later, too: of a server on which
 * too much is looked at, the last subjects of those who look at the most give way ("overloaded").
 */
export interface LookEvent {
  type: "look";
  err: PimError;
}

/**
 * Hands over the present setting of an entity of the user's own log. setting includes the commands of
 * this device that are still in the outbox; pending says that there is one.
 */
export interface SettingEvent {
  type: "setting";
  entity: string; // as of entityOf
  setting: SettingState;
  pending: boolean;
}

/**
 * Names the conversations about which a page of the sync list says something new. The store has the
 * list's summaries already; the entries come later.
 */
export interface ListEvent {
  type: "list";
  conversations: ConversationID[];
}

/**
 * The user has read the conversation up to seq: another device of the user has said so, or has sent a
 * message, or the user has joined the group anew. What this device notifies of the messages up to seq
 * can be taken away. It comes once for each seq, when this device hears of it, and never for what this
 * device itself has read or sent. None comes for a conversation that is new to this device.
 */
export interface ReadEvent {
  type: "read";
  conversation: ConversationID;
  seq: Seq;
}

/** The server does not let this user follow a watched conversation. */
export interface RefusedEvent {
  type: "refused";
  conversation: ConversationID;
  err: PimError;
}

/**
 * The server's store went back: it was restored from a backup, begun anew, or is another server's. The
 * entries of the conversation above after are not in its log any more and have left the device's
 * store, even if they were handed over. The entries that take their seqs follow as EntryEvents. What
 * this user sent of the lost entries comes back: as SendEvents with the old IDs when it is sent again,
 * and as entries with new seqs.
 */
export interface RewoundEvent {
  type: "rewound";
  conversation: ConversationID;
  after: Seq;
}

/**
 * Retention has removed the entries of the conversation with seqs below front, for good and from
 * everybody. They have left the device's store, even if they were not handed over or confirmed yet.
 * What the user has pulled by Ask is the app's to forget.
 */
export interface TrimmedEvent {
  type: "trimmed";
  conversation: ConversationID;
  front: Seq;
}

/**
 * The connection's state has changed. "waiting" with an err of "unauthorized" says that the server has
 * refused the token, or that the token has run out: the app is asked for another after retryIn. With an
 * err of "overloaded" a server has turned the client away because it has too much to do: it is left alone
 * for as long as it said, and retryIn is until the next attempt, at it or at another. "stopped" says that
 * no attempt is made any more, until Reconnect.
 */
export interface StateEvent {
  type: "state";
  state: State;
  err?: Error; // why the connection was lost, or will not be tried again
  retryIn?: Duration; // waiting: until the next attempt
}

/** One page of a conversation as the server has it. */
export interface Page {
  entries: Entry[]; // ascending by seq
  folds: FoldState[]; // of those of them to which other entries refer, as they are now
  from: Seq; // what the page settles; from > to: nothing
  to: Seq;
  newest: Seq; // newest seq that the user may read

  // Of an Ask for changes: for how long the conversation says that its entries are kept, and for how
  // long the server keeps any; 0: for ever.
  retention: Retention;
  serverRetain: Millis;
}

/**
 * How far others have read a conversation. Of a direct conversation it has delivered, read and readAt;
 * of a group it has messages, or readers and next.
 */
export interface Receipts {
  delivered: Seq; // a device of the other user has everything up to here
  read: Seq; // the other user has read everything up to here
  readAt: Millis; // when the user had read so far
  messages: Receipt[]; // one for each message that was asked about, ascending by seq
  readers: Reader[]; // ascending by user
  next: UserID; // empty: this was the last page of readers
}

/**
 * How many have read a message, of those it is for: the members who may read it, without its sender
 * and without those who give no receipts.
 */
export interface Receipt {
  seq: Seq;
  read: number;
  members: number;
}

/** One whom a message is for. */
export interface Reader {
  user: UserID;
  read: boolean; // has read the message
  at: Millis; // when the user had read as far as now, perhaps beyond the message; 0 if read is not set
}

/** A page of those who are in a group. */
export interface Members {
  members: Member[]; // ascending by user
  owner: UserID;
  next: UserID; // empty: this was the last page
}

/** One who is in a group. */
export interface Member {
  user: UserID;
  since: Seq; // the create or join that made the user a member, which the asking user may not be able to read
  at: Millis; // when that was; 0 if it is so long ago that the entry was trimmed
}

/** What a device knows of one conversation. */
export interface Conversation {
  id: ConversationID;
  known: Seq; // everything up to here is stored or settled, except the holes
  newest: Seq; // newest seq that the device has heard of with its count; at least known
  count: number; // counting messages in the log up to newest
  /**
   * The seq of the newest message that the user sent, from any device, or of the user's joining if
   * that is newer, as far as this device has heard; 0: none. ownCount is the counting messages up to
   * own: none of them is unread. ownAll is the messages up to own that mention all.
   */
  own: Seq;
  ownCount: number;
  ownAll: number;
  /** What mentions the user up to newest, as far as this device has heard. */
  mentioned: Mentioned;
  /**
   * The newest entry, while known is below newest: it comes from the server's Summary, which cuts
   * longer payloads to 64 bytes; lastCut says that it did.
   */
  last: Entry | undefined;
  lastCut: boolean;
  left: boolean; // the user is no longer a member
  /**
   * The stretches below known that are not stored, ascending. They come from gaps that are filled from
   * the newest end.
   */
  holes: readonly Hole[];
  /** A seq that nothing in the stored folds lies above; 0: there are none. */
  folded: Seq;
  /**
   * The last seq of the messages whose folds may lack something, since the conversation was taken back
   * (Rewind), or a gap above them is filled only when the app asks for it; 0: none does. They are
   * pulled again.
   */
  stale: Seq;
  /** The first seq that retention has left, as far as this device has heard; 0: nothing was removed. */
  front: Seq;
  /**
   * A seq: of what is kept aside, the server may have lost what stood there or behind it. What stood
   * before it came to its place, and is not lost if retention removes it. 0: nothing may be lost.
   */
  lost: Seq;
}

/** A stretch of a conversation that is not stored, both ends included. */
export interface Hole {
  readonly from: Seq;
  readonly to: Seq;
  readonly lazy: boolean; // filled only when the app asks for it (Fill)
}

/** One entity of the user's own log. */
export interface Setting extends SettingState {
  entity: string; // as of entityOf
}

/** What was learned about the heartbeats of one network. */
export interface Network {
  name: string; // as of NetworkChanged
  every: Duration;
  stable: boolean; // every was found by failing above it
  used: Millis; // when the network was last in use, in server time
}

/** A message in the outbox. */
export interface Outgoing {
  id: ClientMessageID;
  number: number; // order of the outbox; grows from message to message
  conversation: ConversationID; // empty for a create
  kind: EntryKind;
  members: UserID[];
  mentions: UserID[]; // of a message: whom it names, each once
  mentionAll: boolean; // of a message
  payload: Uint8Array;
  refers: Seq; // of an edit, recall, reaction, pin or erase: as in Entry
  reaction: string; // of a reaction
  removed: boolean; // of a reaction or pin: it is taken back
  retain: Millis; // of a retain, as in Entry
  local: Millis; // set at the first transmission, then kept; 0 before it
  first: Millis; // after a Resend: the local time of its first transmission ever; else 0
  queued: Millis; // when it was queued, in server time as far as that was known
  again: boolean; // the server acknowledged it once and has lost it since: see Rewind
  failed: PimError | undefined; // why it is not sent again by itself; undefined if it is. op, kind and text are kept
}

/** An entry as a store keeps it. */
export interface Stored {
  entry: Entry;
  number: number; // as of EntryEvent
  late: boolean; // as of EntryEvent
}

/** What a device's storage knows besides conversations and messages. */
export interface Meta {
  user: UserID; // empty until the first Welcome
  device: DeviceID;
  ackSerial: number; // serial of the last PIMPushAck
  fullSync: boolean; // a full sync is needed, or was begun and is not complete
  lastLocal: Millis; // the last local time that was given to a message
  number: number; // Outgoing.number of the last message that was queued
  stored: number; // Stored.number of the last entry that was stored
  confirms: boolean; // the app confirms entries (Config.confirms), in this process or an earlier one
  confirmed: number; // Stored.number of the last entry that the app is done with
  key: Uint8Array; // a secret of this store, for the IDs of answers; empty: the app does not confirm
  store: string; // identity of the server's store, as a Welcome named it last
  heard: number; // ackSerial of the last Welcome: the highest serial that the server had
  doubt: boolean; // the server's store may have gone back: conversations are being compared
}

/** What an engine starts from: the whole of a store except the entries. Lists are in any order. */
export interface Snapshot {
  meta: Meta;
  conversations: Conversation[]; // last is not needed
  outbox: Outgoing[];
  settings: Setting[];
  networks: Network[]; // at most 16
  erasures: Erasure[];
  former: ConversationID[]; // conversations that have entries kept aside, see Rewind
}

/**
 * A set of changes to a store, to be made in one transaction. The store may keep what the lists refer
 * to, but must not change it.
 */
export interface Batch {
  /** To be made before everything else. */
  rewinds: Rewind[];
  meta?: Meta; // none: unchanged
  conversations: Conversation[];
  /**
   * To be inserted. If the store has an entry of the same conversation and seq already, it is the same
   * entry, and it keeps its number.
   */
  entries: Stored[];
  outbox: Outgoing[]; // to be inserted, or replaced where the ID is known
  remove: ClientMessageID[]; // to be deleted from the outbox
  /** To be inserted, or replaced where the entity is known. */
  settings: Setting[];
  /** Replace those that are stored; none: unchanged. */
  networks?: Network[];
  /**
   * To be merged into the stored folds of the same messages (mergeFolds), after entries are inserted.
   * See Fold.
   */
  folds: Fold[];
  /**
   * To be remembered, each in place of that of the same conversation and user. After entries and
   * folds, what they erase of them and of what is stored is to be erased: the payloads of entries,
   * which are stored as erased then, and edits of folds. What is stored later is erased already where
   * it must be.
   */
  erasures: Erasure[];
  /** Entries to be kept aside as by a Rewind. */
  keep: Entry[];
  /** Entries that are kept aside, and are to be deleted. */
  forget: Former[];
  /** To be made after everything else. */
  trims: Trim[];
}

/**
 * What a store keeps of a message that other entries refer to. When the store has made a Batch's
 * changes, no entry of a recalled message has a payload, neither the message itself nor its edits, in
 * whatever order they were stored: they are stored as erased.
 */
export interface Fold {
  conversation: ConversationID;
  fold: FoldState;
}

/**
 * Takes away what retention has removed: the entries with seqs below front, the folds of messages
 * below it, and what is kept aside with a seq below former.
 */
export interface Trim {
  conversation: ConversationID;
  front: Seq;
  former: Seq;
}

/** How far the messages of a user are erased in a conversation. upTo 0: not at all. */
export interface Erasure extends ErasureState {
  conversation: ConversationID;
}

/**
 * Takes a conversation back: its entries above after are to be deleted. The deleted entries that
 * sender sent are to be kept aside, except those that were erased; each replaces an entry with the
 * same client message ID that is kept aside already. Then aside says what becomes of everything that
 * is kept aside. Folds that have anything above after (newestOfFold) are to be deleted. If the
 * conversation is the user's own log, all settings are to be deleted too.
 */
export interface Rewind {
  conversation: ConversationID;
  after: Seq;
  sender: UserID;
}

/** Names an entry that is kept aside; without an id all of the conversation. */
export interface Former {
  conversation: ConversationID;
  id?: ClientMessageID;
}

/**
 * Returns an entry that is kept aside as r asks for it; undefined if it does not stay. What refers to
 * a message above after goes: the message has another seq when it comes back. An erase is of what is
 * left up to after.
 */
export function aside(r: Rewind, entry: Entry): Entry | undefined {
  if (entry.kind === EntryKind.erase) {
    const refers = Math.min(entry.refers, r.after);
    return refers > 0 ? { ...entry, refers } : undefined;
  }
  return entry.refers <= r.after ? entry : undefined;
}

/** Returns a message to be queued with these fields; all others are empty. */
export function newOutgoing(fields: Pick<Outgoing, "id" | "conversation" | "kind"> & Partial<Outgoing>): Outgoing {
  return {
    number: 0,
    members: [],
    mentions: [],
    mentionAll: false,
    payload: noBytes,
    refers: 0,
    reaction: "",
    removed: false,
    retain: 0,
    local: 0,
    first: 0,
    queued: 0,
    again: false,
    failed: undefined,
    ...fields,
  };
}

/** Returns the answer to what the server need not be asked. */
export function newSent(conversation: ConversationID): Sent {
  const none = { seq: 0, anchor: 0, server: 0, ahead: 0, order: 0, count: 0, allCount: 0 };
  return { conversation, ...none, duplicate: false, strangers: [] };
}

/** Returns the Meta of an empty store. */
export function newMeta(): Meta {
  return {
    user: "",
    device: "",
    ackSerial: 0,
    fullSync: false,
    lastLocal: 0,
    number: 0,
    stored: 0,
    confirms: false,
    confirmed: 0,
    key: noBytes,
    store: "",
    heard: 0,
    doubt: false,
  };
}

/** Returns the Snapshot of an empty store. */
export function newSnapshot(): Snapshot {
  return { meta: newMeta(), conversations: [], outbox: [], settings: [], networks: [], erasures: [], former: [] };
}
