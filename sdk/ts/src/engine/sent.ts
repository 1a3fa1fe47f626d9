import { clientMessageIDOf, entityOf, type Entry, EntryKind, makeEntry, type UserID } from "../pim/index.js";
import { wantPull } from "./catchup.js";
import { showSetting } from "./commands.js";
import { aim, type ConversationState, heard, takeOwn, unknownSeq } from "./conversation.js";
import { type Engine } from "./engine.js";
import { erase } from "./erase.js";
import { foretellOwn } from "./foretold.js";
import { countBack, keepUnseen } from "./former.js";
import { type PIMSendAck } from "./frames.js";
import { setHoles } from "./gaps.js";
import { suspect } from "./goback.js";
import { holesMiss, openHole } from "./holes.js";
import { type OutMessage } from "./outbox.js";
import { readBy } from "./reads.js";
import { orUndefined } from "./refusal.js";
import { type SendState, type Sent } from "./types.js";

/** Takes a PIMSendAck: the message is durable. */
export function sent(e: Engine, a: PIMSendAck): void {
  const id = orUndefined(() => clientMessageIDOf(a.clientMessageId));
  const m = id === undefined ? undefined : e.outbox.byID.get(id);
  if (m === undefined) {
    // answered before
    return;
  }
  const seq = a.seq;
  const s: Sent = {
    conversation: a.conversation,
    seq,
    anchor: a.anchor || seq,
    server: a.serverMs,
    ahead: a.aheadMs,
    order: a.orderMs,
    count: a.count,
    allCount: a.allCount,
    duplicate: a.duplicate,
    strangers: [],
  };
  if (seq === 0) {
    // of an erase: the user has left, and the entry stands where the user may not read
    e.outbox.delivered(m, s);
    const c = e.conversations.get(s.conversation);
    if (c !== undefined && m.out.kind === EntryKind.erase) {
      erase(e, c, { by: e.fx.meta.user, upTo: m.out.refers });
    }
    return;
  }
  m.counts = a.mentionCounts;
  s.strangers = strangers(e, m);
  e.outbox.delivered(m, s);
  const c = e.conversations.get(s.conversation);
  if (c === undefined) {
    // with Config.watch: its entries are not stored
    return;
  }
  if (isTrimmedAnswer(m, s)) {
    if (c.doubt === undefined && seq > c.known) {
      aim(e, c, unknownSeq);
    }
    return;
  }
  if (c.doubt !== undefined) {
    c.doubt.hear(seq);
  } else {
    placed(e, c, m, s, a.payload);
  }
  if (m.command !== undefined && (c.doubt !== undefined || seq > c.known)) {
    e.wishes.expect(entityOf(m.command));
  }
  if (seq > c.known || holesMiss(c.holes, seq, seq)) {
    keepUnseen(e, c, m, s);
  }
}

/** Returns whom m names and the server does not count as mentioned, since they are not members. */
function strangers(e: Engine, m: OutMessage): UserID[] {
  const { mentions, mentionAll } = m.out;
  if (mentionAll || m.counts.length !== mentions.length) {
    // then it counts nobody by name
    return [];
  }
  return mentions.filter((user, i) => m.counts[i] === 0 && user !== e.fx.meta.user);
}

/**
 * Reports whether s says that m was appended so long ago that retention has removed its entry: nothing
 * but the seq is known any more.
 */
function isTrimmedAnswer(m: OutMessage, s: Sent): boolean {
  return s.duplicate && s.server === 0 && s.count === 0 && m.command === undefined;
}

/**
 * Takes note in c that m stands at s. payload is what the server has written in place of m's payload,
 * as it may for a read command; empty: it has written m's.
 */
function placed(e: Engine, c: ConversationState, m: OutMessage, s: Sent, payload: Uint8Array): void {
  const said = makeEntry({
    kind: m.out.kind,
    sender: e.fx.user(),
    device: e.fx.meta.device,
    seq: s.seq,
    count: s.count,
    allCount: s.allCount,
    // Of the members only this one is known.
    members: m.out.kind === EntryKind.create ? [e.fx.user()] : [],
  });
  readBy(e, c, said);
  if (holesMiss(c.holes, s.seq, s.seq)) {
    // the device has passed over it
    setHoles(e, c, openHole(c.holes, s.seq));
    wantPull(e, c);
  } else if (s.seq <= c.known && m.command !== undefined) {
    // A pull has left it out, because a later command superseded it.
    showSetting(e, entityOf(m.command));
  } else if (s.seq <= c.known) {
    if (!s.duplicate && !c.checked) {
      suspect(e, c); // another entry is stored at that seq
    }
  } else if (!canMakeUp(m) || s.duplicate || m.out.first !== 0) {
    // The entry is pulled, not made up from m. The writer may have chosen other members, or this
    // answers an earlier transmission, which may have differed from m.
    heard(c, s.seq, s.count);
    e.fx.touch(c);
    wantPull(e, c);
  } else {
    if (payload.length > 0) {
      m.out.payload = payload;
    }
    takeOwn(e, c, madeUp(e, m, s));
  }
  if (m.command !== undefined && s.seq > c.known) {
    foretellOwn(e, s.seq, m);
  }
}

/** Makes up the entry of m from the server's answer. */
export function madeUp(e: Engine, m: OutMessage, s: Sent): Entry {
  const { out } = m;
  const counted = m.counts.length === out.mentions.length;
  return makeEntry({
    conversation: s.conversation,
    seq: s.seq,
    anchor: s.anchor,
    count: s.count,
    kind: out.kind,
    sender: e.fx.meta.user,
    device: e.fx.meta.device,
    clientID: out.id,
    local: out.local,
    server: s.server,
    ahead: s.ahead,
    order: s.order,
    members: out.members,
    payload: out.payload,
    refers: out.refers,
    mentions: out.mentions.map((user, i) => ({ user, count: (counted ? m.counts[i] : undefined) ?? 0 })),
    mentionAll: out.mentionAll,
    allCount: s.allCount,
    reaction: out.reaction,
    removed: out.removed,
    retain: out.retain,
  });
}

/** Reports whether the entry can be made up from m and its answer. */
function canMakeUp(m: OutMessage): boolean {
  const message = m.out.kind === EntryKind.message && m.counts.length === m.out.mentions.length;
  return message || m.out.kind === EntryKind.command || (m.out.refers !== 0 && !m.cut);
}

/**
 * Takes note that m has left the outbox, with the state end. A command that has not reached the server
 * changes a setting; one that has reached it comes back as an entry.
 */
export function left(e: Engine, m: OutMessage, end: SendState): void {
  countBack(e, m, -1);
  if (m.command !== undefined && (end === "failed" || end === "discarded")) {
    showSetting(e, entityOf(m.command));
  }
}
