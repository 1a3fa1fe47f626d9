import {
  type ClientMessageID,
  type Command,
  type ConversationID,
  type Entry,
  type Millis,
  type PimError,
  type Seq,
  type UserID,
} from "../pim/index.js";
import { type Frame as WireFrame, type FrameInit } from "../wire/index.js";
import { type Duration } from "./duration.js";
import { type Batch, type Event, type Members, type Outgoing, type Page, type Receipts } from "./types.js";

/** A point in time, on two clocks. */
export interface Time {
  /** Since any fixed moment; only ever grows. */
  mono: Duration;
  /** The device's wall clock, which may jump. */
  wall: Millis;
}

/** What an engine is told. */
export type Input =
  | Start
  | Dialled
  | NoToken
  | Lost
  | Frame
  | Arriving
  | Pause
  | NetworkChanged
  | Reconnect
  | Online
  | Foreground
  | Tick
  | FromStore
  | Close
  | Send
  | Do
  | Resend
  | Discard
  | Confirm
  | Follow
  | Open
  | Reading
  | Fill
  | Ask
  | AskReceipts
  | AskMembers
  | Look
  | Typing
  | Unask;

// Inputs of the connection. Attempts are numbered by the engine, see Output.dials.

/** The first input: connect. */
export interface Start {
  type: "start";
}

/**
 * An attempt's connection stands: TCP, TLS and the WebSocket upgrade are through. The engine takes the
 * first and hangs up the others.
 */
export interface Dialled {
  type: "dialled";
  attempt: number;
  token: string;
}

/**
 * The app gave no token for an attempt, and why. If err is "unauthorized", the engine waits as after a
 * refused token. If err.retryAfter is set, the app is not asked again before that has passed.
 */
export interface NoToken {
  type: "noToken";
  attempt: number;
  err: PimError;
}

/**
 * An attempt failed, or its connection broke. It is ignored if the attempt was hung up. code is the
 * close code if the server gave one, else 0.
 */
export interface Lost {
  type: "lost";
  attempt: number;
  err: Error;
  code: number;
}

/** A frame from the server on the attempt's connection; message is undefined if its type is not known. */
export interface Frame {
  type: "frame";
  attempt: number;
  message: WireFrame | undefined;
}

/**
 * Bytes of a frame have come, the last of them at `at` on the monotonic clock, and the frame was not
 * given to the engine yet: it is not complete, because it is large and the line slow, or the shell has
 * not taken it. It also says that bytes of frames have gone out at `at`, and that more are to go. Give
 * it before any input that comes at or after the deadline.
 */
export interface Arriving {
  type: "arriving";
  attempt: number;
  at: Duration;
}

/**
 * With on, the shell has stopped reading from the connection, because the app does not take its
 * events; without, it reads again.
 */
export interface Pause {
  type: "pause";
  on: boolean;
}

/**
 * The device is on another network, or has a network again: the connection is made anew at once. name
 * tells networks apart, as "wifi/home" or "mobile/262-01", because their heartbeats differ. It may be
 * empty, and has at most 128 bytes.
 */
export interface NetworkChanged {
  type: "networkChanged";
  name: string;
}

/**
 * Makes the connection anew at once, also in state "stopped". In state "offline" it changes nothing.
 * After a refused token it waits up to 2·backoffMin.
 */
export interface Reconnect {
  type: "reconnect";
}

/** Says whether the app wants a connection. At first it does. */
export interface Online {
  type: "online";
  on: boolean;
}

/** Says whether a person looks at the app. While one does, heartbeats come at least once a minute. */
export interface Foreground {
  type: "foreground";
  on: boolean;
}

/** Time has passed. */
export interface Tick {
  type: "tick";
}

/** The answer to a Read, to be given before any other input. */
export interface FromStore {
  type: "fromStore";
  id: number;
  entries: Entry[];
}

/** The app is about to end: acknowledgements that wait to be coalesced are transmitted now. */
export interface Close {
  type: "close";
}

// Inputs of the outbox.

/**
 * Queues a message. The engine sets its number, local, queued and failed. The engine and the store
 * keep its payload: the caller must not change it.
 */
export interface Send {
  type: "send";
  message: Outgoing;
}

/**
 * Queues a command to the user's own log. The engine sets its known. The engine must know its user,
 * from a Welcome or from Config.user.
 */
export interface Do {
  type: "do";
  id: ClientMessageID;
  command: Command;
}

/** Queues a failed message again: the same ID, a new local time. */
export interface Resend {
  type: "resend";
  id: ClientMessageID;
}

/** Gives up a message that is queued or failed. */
export interface Discard {
  type: "discard";
  id: ClientMessageID;
}

/**
 * With Config.confirms: the app is done with every entry up to number (EntryEvent). It queues the
 * app's answers in the same transaction. An answer whose ID is in the outbox was queued before, and is
 * skipped.
 */
export interface Confirm {
  type: "confirm";
  number: number;
  answers: Outgoing[]; // as in Send
}

// Inputs about conversations.

/**
 * For an engine with Config.watch: hand over the entries of the conversation that come after the seq
 * after, in the order of their seqs.
 */
export interface Follow {
  type: "follow";
  conversation: ConversationID;
  after: Seq;
}

/** Names the conversation that a person looks at; empty: none. It is pulled before all others. */
export interface Open {
  type: "open";
  conversation: ConversationID;
}

/**
 * Says whether a person reads the conversation. While one does, and the app is in the foreground
 * (Foreground), what is in it is read, and so is what comes, as it comes: the SettingEvent of that is
 * in the Output that has the entry. The mark as unread is taken away at the beginning. The
 * conversation is pulled like one that is open. Several may be read at the same time.
 */
export interface Reading {
  type: "reading";
  conversation: ConversationID;
  on: boolean;
}

/**
 * Pulls up to limit entries (0: a page) of the conversation's holes below the seq before (0: of all
 * holes), the newest first. The answer, in Output.filled, comes when they are stored, or when no hole
 * lies below before.
 */
export interface Fill {
  type: "fill";
  id: number; // chosen by the caller; unlike that of any Fill or Ask that waits
  conversation: ConversationID;
  before: Seq;
  limit: number;
}

/** Pulls a page for the app; the answer is in Output.pulled. */
export interface Ask {
  type: "ask";
  id: number; // chosen by the caller; unlike that of any Fill or Ask that waits
  conversation: ConversationID;
  from: Seq;
  to: Seq;
  limit: number;
  newestFirst: boolean;
  changes: boolean; // no entries: what has become of them, and Page.retention
}

/** Asks the server how far others have read. The answer is in Output.pulled. */
export interface AskReceipts {
  type: "askReceipts";
  id: number; // as that of an Ask
  conversation: ConversationID;
  from: Seq;
  to: Seq;
  readers: boolean; // of the message at from, who has read it and who has not
  after: UserID;
}

/** Asks the server who is in a group. The answer is in Output.pulled. */
export interface AskMembers {
  type: "askMembers";
  id: number; // as that of an Ask
  conversation: ConversationID;
  after: UserID; // the last one of the page before
}

/**
 * Names what is on the screen, in place of what the last Look named; at most 100 conversations and
 * users. The server tells what others read and write in the conversations (ReceiptEvent, TypingEvent),
 * from the time on at which it has the Look, and whether the users are connected (PresenceEvent).
 */
export interface Look {
  type: "look";
  conversations: ConversationID[];
  users: UserID[];
}

/**
 * A person writes in a conversation. The server is told once in a second at most, and only if there is
 * a connection.
 */
export interface Typing {
  type: "typing";
  conversation: ConversationID;
}

/** Nobody waits for the answer to an Ask, AskReceipts, AskMembers or Fill any more. */
export interface Unask {
  type: "unask";
  id: number;
}

/** What the caller has to do, in the order of the fields; see engine.ts. */
export interface Output {
  store: Batch;
  frames: FrameInit[]; // for the connection in use: that of the last Dialled attempt that was not hung up
  hangups: number[]; // attempts: close their connections, or give up making them
  dials: Dial[];
  events: Event[];
  filled: Filled[];
  pulled: Pulled[];
  reads: Read[];
}

/**
 * Asks for entries of the store, once everything else in the Output has been done. Without former
 * these are the last limit entries with seqs up to upTo. With former they are the entries that are
 * kept aside (Rewind), ordered by seq: the first limit after the first skip. The answer, ascending by
 * seq, is FromStore.
 */
export interface Read {
  id: number;
  conversation: ConversationID;
  upTo: Seq;
  former: boolean;
  skip: number;
  limit: number;
}

/**
 * Asks for an attempt to connect, to be answered with Dialled, NoToken or Lost. Up to three may be
 * under way at once.
 */
export interface Dial {
  attempt: number;
  server: string; // URL: one of Config.servers, or an alternative that a server named
}

/** The answer to an Ask (page), AskReceipts (receipts) or AskMembers (members), or why there is none (err). */
export interface Pulled {
  id: number;
  page?: Page;
  receipts?: Receipts;
  members?: Members;
  err?: PimError;
}

/** The answer to a Fill. */
export interface Filled {
  id: number;
  more: boolean; // holes are left below Fill.before
  err?: PimError;
}

/** Returns an Output that asks for nothing. */
export function newOutput(): Output {
  return { store: newBatch(), frames: [], hangups: [], dials: [], events: [], filled: [], pulled: [], reads: [] };
}

/** Returns a Batch that changes nothing. */
export function newBatch(): Batch {
  return {
    rewinds: [],
    conversations: [],
    entries: [],
    outbox: [],
    remove: [],
    settings: [],
    folds: [],
    erasures: [],
    keep: [],
    forget: [],
    trims: [],
  };
}
