import { type ConversationID, type Entry, makeEntry, type Seq, timeOf } from "../pim/index.js";
import { ackable, aim, arrive, type ConversationState, heard, isOwn, newestSeq, unknownSeq } from "./conversation.js";
import { type Engine } from "./engine.js";
import { strip } from "./erase.js";
import { foretell } from "./foretold.js";
import { type PIMSyncResp, readableEntry, type Standing, type Summary } from "./frames.js";
import { suspect } from "./goback.js";
import { readInList, readMoved, readUpTo } from "./reads.js";
import { toldFronts, trimmed } from "./trim.js";

/** Starts reading the sync list on a new connection. */
export function resumeSync(e: Engine): void {
  e.sync.opened();
  e.acks.forgetFronts(); // the server tells them again
  e.sync.listed = e.cfg.watch;
  startSync(e);
}

/** Reads the sync list from its beginning, or pulls all that is watched. */
export function startSync(e: Engine): void {
  if (!e.cfg.watch) {
    if (e.sync.start()) {
      askSync(e);
    }
    return;
  }
  for (const c of e.conversations.byID.values()) {
    if (c.followed) {
      aim(e, c, unknownSeq);
    }
  }
  e.pulls.sort();
}

/** Asks for the next page of the sync list. */
function askSync(e: Engine): void {
  e.acks.send(true); // the server lists what this device has not acknowledged
  e.sync.ask();
}

/** Takes a page of the sync list, or what comes ahead of the first one. */
export function synced(e: Engine, m: PIMSyncResp): void {
  if (!(m.recent ? e.sync.ahead(m.requestId) : e.sync.answered(m.requestId))) {
    return;
  }
  const conversations: ConversationID[] = [];
  for (const s of m.conversations) {
    if (summarized(e, s)) {
      conversations.push(s.conversation);
    }
  }
  e.pulls.sort();
  if (conversations.length > 0) {
    e.fx.emit({ type: "list", conversations });
  }
  if (m.recent) {
    return;
  }
  toldFronts(e, m.fronts); // after the list: it says up to where a conversation goes
  e.sync.fronts(m.fronts);
  if (e.sync.page(m.nextAfter)) {
    askSync(e);
  }
}

/** Takes one line of the sync list and reports whether it says something new. */
function summarized(e: Engine, s: Summary): boolean {
  const c = e.conversations.get(s.conversation);
  if (c === undefined) {
    return false;
  }
  const newest = newestSeq(s.newest);
  if (c.doubt !== undefined) {
    c.doubt.hear(newest);
    c.doubt.listed = s;
    return false;
  }
  if (newest < c.known && c.movedAt < e.sync.begunAt && !c.checked) {
    suspect(e, c);
    return false;
  }
  const isNew = c.newest === 0;
  readUpTo(e, c);
  foretell(e, s);
  readMoved(e, c, isNew);
  const whole = wholeOf(c.id, s);
  let changed = false;
  if (whole !== undefined && newest === c.known + 1) {
    arrive(e, c, whole);
  } else if (newest >= c.newest && (newest > c.known || c.left !== s.left)) {
    changed = true;
    takeSummary(e, c, s, newest);
  }
  changed = counts(e, c, standingOf(s), newest) || changed;
  readInList(e, c, isNew);
  if (newest > c.known) {
    aim(e, c, newest);
    if (whole !== undefined) {
      e.conversations.keepAhead(c, whole);
    }
  }
  trimmed(e, c, s.front, newest);
  if (s.acked < Math.min(ackable(c), newest)) {
    c.acked = s.acked;
    e.acks.later(c);
  }
  return changed;
}

/** Takes what s says of c, whose newest seq is newest, and of its last entry. */
function takeSummary(e: Engine, c: ConversationState, s: Summary, newest: Seq): void {
  e.fx.touch(c);
  c.newest = newest;
  c.counted = newest;
  c.count = s.count;
  c.left = s.left;
  const shown = lastOf(c.id, s);
  if (shown !== undefined && newest > c.known) {
    const last = strip(c, shown);
    c.last = last;
    c.lastCut = s.lastCut;
    c.recent = timeOf(last);
    e.fx.reads(c, last);
  }
}

/**
 * Takes the server's word for where the user's newest message in c stands, and for what mentions the
 * user, and reports whether it is new. newest is the newest seq of which the server has told.
 */
export function counts(e: Engine, c: ConversationState, s: Standing, newest: Seq): boolean {
  let changed = false;
  const own = newestSeq(s.own);
  if (own > c.own && own <= newest) {
    c.own = own;
    c.ownUpTo = Math.min(s.ownCount, s.count);
    c.ownAll = Math.min(s.ownAll, s.allCount);
    changed = true;
    e.fx.touch(c);
  }
  if (s.named > c.said.named || s.allCount > c.said.all) {
    e.fx.says(c, { named: Math.min(s.named, s.count), all: Math.min(s.allCount, s.count) });
    changed = true;
  }
  return changed;
}

/** Returns what s says of counts. */
export function standingOf(s: Summary): Standing {
  const { newest, count, own, ownCount, named, ownAll, allCount } = s;
  return { newest, count, own, ownCount, named, ownAll, allCount };
}

/**
 * Takes what a page says of the counts of c: entries that would have told it may be in the gap that the
 * page jumps, or removed. isNew says that c was new to this device before the page.
 */
export function stands(e: Engine, c: ConversationState, s: Standing | undefined, isNew: boolean): void {
  if (s === undefined || e.cfg.watch || isOwn(c)) {
    return;
  }
  readUpTo(e, c);
  const { counted } = c;
  const newest = newestSeq(s.newest);
  heard(c, newest, s.count);
  if (counts(e, c, s, newest) || c.counted !== counted) {
    e.fx.touch(c);
    e.fx.emit({ type: "list", conversations: [c.id] });
  }
  readInList(e, c, isNew);
}

/**
 * Returns the entry at s.newest if s shows the whole of it. Such an entry counts as if it had been
 * pushed.
 */
function wholeOf(id: ConversationID, s: Summary): Entry | undefined {
  if (!s.whole || s.last?.seq !== s.newest) {
    return undefined;
  }
  return readableEntry(id, s.last);
}

/**
 * Returns the entry that s shows; undefined if s shows none. The fields that s itself has are taken
 * from s, since a brief Summary leaves them out of the entry.
 */
function lastOf(id: ConversationID, s: Summary): Entry | undefined {
  const m = s.last;
  if (m === undefined) {
    return undefined;
  }
  return makeEntry({
    conversation: id,
    seq: s.newest,
    anchor: m.anchor || s.newest,
    count: s.count,
    allCount: s.allCount,
    kind: m.kind,
    sender: m.sender,
    local: m.localMs,
    server: m.serverMs,
    ahead: m.aheadMs,
    payload: m.payload,
  });
}

/**
 * Ends the full sync that is due, if it is complete: the whole list is read, and every conversation in
 * it is pulled.
 */
export function finishSync(e: Engine): void {
  const { meta } = e.fx;
  if (meta.fullSync && !e.cfg.watch && e.sync.full && e.isSynced()) {
    meta.fullSync = false;
    e.fx.metaDirty = true;
  }
}

/** Asks again for a page that was refused, or not answered in time. */
export function tickSync(e: Engine): void {
  const sentAt = e.paused ? undefined : e.sync.overdue();
  if (sentAt !== undefined) {
    e.watchdog.unanswered(sentAt, e.fx.now.mono);
  }
  if (sentAt !== undefined || e.sync.due()) {
    askSync(e);
  }
}
