import {
  checkConversationID,
  type ConversationID,
  type Entry,
  EntryKind,
  erasureOf,
  type Mentioned,
  type Millis,
  own,
  ownUser,
  PimError,
  type Seq,
  timeOf,
  type UserID,
} from "../pim/index.js";
import { jobOf, wantPull } from "./catchup.js";
import { type Check } from "./check.js";
import { obey } from "./commands.js";
import { type Duration, millisecond } from "./duration.js";
import { type Engine } from "./engine.js";
import { erase, strip } from "./erase.js";
import { folded } from "./folds.js";
import { caughtUp } from "./foretold.js";
import { cameBack } from "./former.js";
import { type PIMPush, readableEntry } from "./frames.js";
import { isUnlisted } from "./goback.js";
import { ackableBelow, type Holes } from "./holes.js";
import { readBy } from "./reads.js";
import { startSync } from "./sync.js";
import { type Conversation } from "./types.js";

/**
 * How long an entry of this device, whose answer came ahead of entries of others, waits until these
 * are pushed: the server hands out the answers of a commit before its pushes. A gap between pushes is
 * pulled at once.
 */
export const gapPatience: Duration = 200 * millisecond;

/** The target of a conversation whose newest seq is still to be learned. */
export const unknownSeq: Seq = Number.MAX_SAFE_INTEGER;

/** Returns a newest seq that a server names. It is never unknownSeq. */
export function newestSeq(seq: Seq): Seq {
  return Math.min(seq, unknownSeq - 1);
}

/**
 * The position of this device in one conversation.
 *
 * Entries up to known are stored and handed over, except those in holes. There are more of them up to
 * newest. Entries that came ahead of a gap wait in ahead, which is a cache: an entry that is not in it
 * is pulled.
 */
export interface ConversationState {
  readonly id: ConversationID;
  known: Seq;
  newest: Seq;
  count: number; // counting messages up to counted
  counted: Seq; // newest; or less if a pull named newest, which tells no count
  last: Entry | undefined; // at newest, from a Summary; undefined once known has reached it
  lastCut: boolean; // the Summary cut the payload of last
  own: Seq; // the newest entry heard of that makes all before it read, see Effects.reads
  ownUpTo: number; // counting messages up to own
  ownAll: number; // messages up to own that mention all
  said: Mentioned; // of the user, as far as was heard
  readTo: Seq; // see readUpTo
  left: boolean;
  holes: Holes; // what is missing below known
  folded: Seq; // nothing in the stored folds is newer
  stale: Seq; // folds up to here may lack something; 0: none does
  fresh: Seq; // those up to here were pulled again, by this process
  readonly erased: Map<UserID, Seq>; // how far the users' messages are erased
  front: Seq; // entries before it were removed by retention, see trimmed
  lost: Seq; // as Conversation.lost
  recent: Millis; // when the newest entry that was heard of was written
  acked: Seq; // acknowledged on this connection or before, as far as is known

  followed: boolean; // with Config.watch: Follow named it
  target: Seq; // where catching up ends: see aim; 0: nowhere
  ahead: Entry[]; // ascending by seq, all above known+1
  gapBy: Duration; // when the gap is pulled if pushes do not close it; 0: not set
  retryAt: Duration; // after a failed pull: when it is tried again; 0: not set
  failures: number; // pulls in a row that failed
  pulling: boolean; // a pull is queued or under way
  again: boolean; // that pull was made before the last aim: pull once more after it
  rowDirty: boolean; // it is in Effects.rowsDirty
  ackDirty: boolean; // it is in Acks.dirty

  doubt: Check | undefined; // what is known of it may not hold; undefined: it does
  checked: boolean; // it was compared with the server on this connection
  movedAt: Duration; // when the position last moved
  former: boolean; // it is in Engine.former: entries of it may be kept aside
  whole: boolean; // no gap is jumped, because those entries may be in it
  unseen: Seq[]; // where the messages stand that keepUnseen kept aside, at most maxUnseen
  reading: boolean; // a Read of these entries is under way
  peeked: boolean; // formerRead has looked whether the create is kept aside, see Outbox.stuck
  back: number; // messages in the outbox that are being sent again (Outgoing.again)
}

/** Returns a conversation of which nothing is known. */
export function newConversation(id: ConversationID, followed: boolean): ConversationState {
  return {
    id,
    known: 0,
    newest: 0,
    count: 0,
    counted: 0,
    last: undefined,
    lastCut: false,
    own: 0,
    ownUpTo: 0,
    ownAll: 0,
    said: { named: 0, all: 0 },
    readTo: 0,
    left: false,
    holes: [],
    folded: 0,
    stale: 0,
    fresh: 0,
    erased: new Map(),
    front: 0,
    lost: 0,
    recent: 0,
    acked: 0,
    followed,
    target: 0,
    ahead: [],
    gapBy: 0,
    retryAt: 0,
    failures: 0,
    pulling: false,
    again: false,
    rowDirty: false,
    ackDirty: false,
    doubt: undefined,
    checked: false,
    movedAt: 0,
    former: false,
    whole: false,
    unseen: [],
    reading: false,
    peeked: false,
    back: 0,
  };
}

/** Returns what is stored of c. newest and count are of one entry: a read command takes over both, for good. */
export function rowOf(c: ConversationState): Conversation {
  const shown = c.known < c.newest ? c.last : undefined;
  return {
    id: c.id,
    known: c.known,
    newest: Math.max(c.known, c.counted),
    count: c.count,
    own: c.own,
    ownCount: c.ownUpTo,
    ownAll: c.ownAll,
    mentioned: c.said,
    last: shown,
    lastCut: shown !== undefined && c.lastCut,
    left: c.left,
    holes: c.holes,
    folded: c.folded,
    stale: c.stale,
    front: c.front,
    lost: c.lost,
  };
}

/** Takes note that there is an entry at seq; count is the counting messages up to it. */
export function heard(c: ConversationState, seq: Seq, count: number): void {
  c.newest = Math.max(c.newest, seq);
  if (seq > c.counted) {
    c.counted = seq;
    c.count = count;
  }
}

/** Reports whether c is the user's own log. */
export function isOwn(c: ConversationState): boolean {
  return ownUser(c.id) !== undefined;
}

export function isBehind(c: ConversationState): boolean {
  return c.known < c.newest || c.target === unknownSeq;
}

/** Returns the seq up to which the device has what it is to have. */
export function ackable(c: ConversationState): Seq {
  return ackableBelow(c.holes, c.known);
}

/** Starts to hand over the entries of id after the seq after. It throws a PimError if that is refused. */
export function follow(e: Engine, id: ConversationID, after: Seq): void {
  if (!e.cfg.watch) {
    throw new PimError("invalid", "without watch every conversation is followed already");
  }
  checkConversationID(id);
  const c = e.conversations.add(id);
  e.pulls.abandon(c);
  e.doubts.trust(c);
  e.conversations.clearAhead(c);
  c.followed = true;
  c.known = after;
  c.newest = after;
  c.counted = after;
  e.fx.touch(c);
  aim(e, c, unknownSeq);
}

/**
 * Starts catching up on a new connection. A watched conversation may have grown while there was no
 * connection.
 */
export function resumeConversations(e: Engine): void {
  for (const c of e.conversations.byID.values()) {
    c.retryAt = 0;
    c.failures = 0;
    if (c.doubt !== undefined) {
      continue;
    }
    if (e.cfg.watch && c.followed) {
      aim(e, c, unknownSeq);
    } else if (c.followed && c.known < c.newest) {
      aim(e, c, c.newest);
    } else if (isUnlisted(e, c)) {
      aim(e, c, unknownSeq);
    } else if (jobOf(e, c) !== undefined) {
      wantPull(e, c);
    }
  }
  e.pulls.sort();
}

/**
 * Makes c catch up at least to target. Until c has, the engine is not synced. With unknownSeq the next
 * pull has to tell the target.
 */
export function aim(e: Engine, c: ConversationState, target: Seq): void {
  if (skips(e, c)) {
    return;
  }
  e.conversations.setTarget(c, Math.max(c.target, target));
  c.again = c.again || (c.pulling && target === unknownSeq);
  wantPull(e, c);
}

/** Reports whether the device leaves c as the list has it. */
export function skips(e: Engine, c: ConversationState): boolean {
  return e.cfg.peek && !isOwn(c);
}

/** Takes the entries of a push. A push is a hint: an entry that it does not bring is pulled. */
export function pushed(e: Engine, m: PIMPush): void {
  if (m.behind) {
    startSync(e);
  }
  const c = e.conversations.get(m.conversation);
  if (c === undefined) {
    return;
  }
  if (c.doubt !== undefined) {
    for (const w of m.entries) {
      c.doubt.hear(newestSeq(w.seq));
    }
    return;
  }
  for (const w of m.entries) {
    const entry = readableEntry(c.id, w);
    if (entry === undefined) {
      // unreadable; a pull finds out whether it is so on disk
      heard(c, w.seq, w.count);
    } else {
      arrive(e, c, entry);
    }
  }
  if (isBehind(c)) {
    wantPull(e, c);
  }
}

/**
 * Takes an entry of this device, made up from its message and the answer to that. The server pushes
 * the entry to the other devices only.
 */
export function takeOwn(e: Engine, c: ConversationState, entry: Entry): void {
  arrive(e, c, entry);
  if (isBehind(c) && !c.pulling && c.gapBy === 0) {
    e.pulls.awaitPushes(c);
  }
}

/** Takes one entry: it delivers the entry if that is the next, and keeps it if there is a gap before it. */
export function arrive(e: Engine, c: ConversationState, entry: Entry): void {
  if (entry.seq <= c.known) {
    return;
  }
  if (entry.seq === c.known + 1) {
    deliver(e, c, entry);
    closeGap(e, c);
    return;
  }
  readBy(e, c, entry);
  heard(c, entry.seq, entry.count);
  e.fx.touch(c);
  e.conversations.keepAhead(c, entry);
}

/**
 * Stores an entry, moves the position over it, and hands it over. The seqs between the position and
 * the entry must be settled.
 */
export function deliver(e: Engine, c: ConversationState, whole: Entry): void {
  const user = e.fx.meta.user;
  const entry = strip(c, whole);
  if (entry.sender === user) {
    e.outbox.found(entry);
    cameBack(e, c, entry);
  }
  readBy(e, c, entry);
  heard(c, entry.seq, entry.count);
  settle(e, c, entry.seq);
  if (entry.seq === c.newest) {
    c.recent = timeOf(entry);
  }
  if (entry.invited.includes(user)) {
    c.left = true; // who is invited is no member
  }
  if (entry.members.includes(user)) {
    membership(e, c, entry);
  }
  if (c.id === own(user)) {
    obey(e, entry);
    caughtUp(e);
  }
  if (entry.seq < c.front) {
    return; // the entry was still under way when the device was told that it is gone
  }
  e.fx.hand(entry, false);
  folded(e, c, entry);
  const erasure = erasureOf(entry);
  if (erasure !== undefined) {
    erase(e, c, erasure);
  }
}

/** Takes note of an entry that names this user as a member, who has joined or left. */
function membership(e: Engine, c: ConversationState, entry: Entry): void {
  if (entry.kind === EntryKind.leave) {
    c.left = true;
  } else if (entry.kind === EntryKind.create || entry.kind === EntryKind.join) {
    if (c.left) {
      // what was recalled meanwhile was not told
      e.conversations.setStale(c, entry.seq - 1);
      wantPull(e, c);
    }
    c.left = false;
    if (c.back !== 0) {
      e.outbox.revive(c.id);
    }
  }
}

/** Moves the position to seq. */
export function settle(e: Engine, c: ConversationState, seq: Seq): void {
  if (seq <= c.known) {
    return;
  }
  c.known = seq;
  c.movedAt = e.fx.now.mono;
  c.newest = Math.max(c.newest, seq);
  if (c.known === c.newest) {
    c.last = undefined;
    c.lastCut = false;
  }
  e.fx.touch(c);
  e.acks.later(c);
  e.conversations.arrived(c);
}

/** Delivers the entries that were ahead and are next now. */
export function closeGap(e: Engine, c: ConversationState): void {
  for (let next = e.conversations.takeAhead(c); next !== undefined; next = e.conversations.takeAhead(c)) {
    deliver(e, c, next);
  }
  if (!isBehind(c)) {
    c.gapBy = 0;
  }
}
