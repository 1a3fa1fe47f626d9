import { type ConversationID, type Entry, EntryKind, maxPayload, newGroup, own } from "../pim/index.js";
import { compareText } from "../pim/text.js";
import { showSetting } from "./commands.js";
import { type ConversationState, isBehind, isOwn } from "./conversation.js";
import { type Engine } from "./engine.js";
import { takeBack } from "./goback.js";
import { eagerHole } from "./holes.js";
import { maxFailed, maxOutbox, type OutMessage } from "./outbox.js";
import { madeUp } from "./sent.js";
import { mayBeLost } from "./trim.js";
import { newOutgoing, type Sent } from "./types.js";
import { commandPage } from "./wishes.js";

// When a conversation is taken back, the store keeps aside the entries that the user sent and the
// server has lost. An entry is also kept aside when its message leaves the outbox before the entry is
// stored (keepUnseen). An entry that then comes by a push or a pull is not kept aside any more. So when
// all that the server has was pulled, it lacks the entries that are still kept aside. They are sent
// again, with the same client message IDs and the same local times: they enter the outbox
// (Outgoing.again), a page at a time. Every device of the user does that. The client message ID gives
// an entry one effect. If another device brought it back so long ago that the server has forgotten the
// ID, this device has pulled the entry.

const backPage = 32; // messages of a conversation that are sent again at once

/** How many messages of a conversation may wait for their entries before it is pulled without jumping gaps. */
const maxUnseen = 32;

/** Adds c to the conversations that may have entries kept aside, which are ordered by ID. */
function addFormer(e: Engine, c: ConversationState): void {
  if (!c.former) {
    c.former = true;
    e.former.push(c);
    e.former.sort((a, b) => compareText(a.id, b.id));
  }
}

/**
 * Goes on with what an earlier process kept aside. The own log is pulled anew: how old its commands are
 * (Wishes.obeyed) is noted only while they are obeyed.
 */
export function restoreFormer(e: Engine, ids: readonly ConversationID[]): void {
  for (const id of ids) {
    const c = e.conversations.add(id);
    if (isOwn(c)) {
      takeBack(e, c, 0, 0, ""); // what was stored since is not kept aside: the server has it
      e.wishes.forget(e.settings);
      e.foretold.clear();
      e.wishes.takenBackBefore();
    }
    keepFormer(e, c);
  }
}

/** Notes that entries of c may be kept aside. */
export function keepFormer(e: Engine, c: ConversationState): void {
  c.peeked = false;
  c.whole = true;
  if (isOwn(c)) {
    e.wishes.begin();
  }
  addFormer(e, c);
}

/**
 * Keeps aside the entry of m, which has left the outbox for the place s in c and is not stored: if the
 * server goes back before the entry has come, no other device may have it.
 *
 * Two kinds are not kept aside. A command would make the next process pull the own log anew
 * (restoreFormer), which is too much for a setting. If a message that was sent again is answered as a
 * duplicate, some device has pulled its entry, and that device brings it back if need be. Or the server
 * shows the entry to nobody: then it would be sent again without end.
 */
export function keepUnseen(e: Engine, c: ConversationState, m: OutMessage, s: Sent): void {
  if (m.command !== undefined || (m.out.again && s.duplicate)) {
    return;
  }
  e.fx.out.store.keep.push(madeUp(e, m, s));
  addFormer(e, c);
  if (c.unseen.length < maxUnseen) {
    c.unseen.push(s.seq);
  } else {
    c.whole = true;
  }
}

/**
 * Drops the entries of c that wait ahead of a gap. Those that the user sent are kept aside: the server
 * has acknowledged them, so they are not in the outbox any more.
 */
export function dropAhead(e: Engine, c: ConversationState): void {
  for (const entry of c.ahead) {
    if (entry.sender === e.fx.meta.user) {
      e.fx.out.store.keep.push(entry);
      mayBeLost(e, c, c.known + 1);
      keepFormer(e, c);
    }
  }
  e.conversations.clearAhead(c);
}

/** Notes that nothing of c is kept aside any more. */
function noFormer(e: Engine, c: ConversationState): void {
  c.former = false;
  c.whole = false;
  c.unseen = [];
  e.former = e.former.filter((other) => other !== c);
  if (c.lost !== 0) {
    c.lost = 0;
    e.fx.touch(c);
  }
  if (isOwn(c)) {
    e.wishes.reset();
  }
}

/**
 * Takes an entry of this user's that the server has: if it is kept aside, it is not to be sent again.
 */
export function cameBack(e: Engine, c: ConversationState, entry: Entry): void {
  c.unseen = c.unseen.filter((seq) => seq !== entry.seq);
  if (c.former && !isOwn(c)) {
    e.fx.out.store.forget.push({ conversation: c.id, id: entry.clientID });
  }
}

/** Reads more of what is kept aside, if there is room for it. */
export function bringBack(e: Engine): void {
  const o = e.outbox;
  const room = o.failed.length <= maxFailed / 2 && o.fits(backPage, backPage * maxPayload);
  if (e.former.length === 0 || !e.sync.listed || e.doubts.count > 0 || !room) {
    return;
  }
  for (const c of e.former) {
    const busy = isBehind(c) || c.target !== 0 || c.pulling || c.reading;
    if ((c.back > 0 && !o.stuck(c)) || busy || !c.followed || eagerHole(c.holes) !== undefined) {
      continue; // what is kept aside may lie in that hole
    }
    const range = isOwn(c) ? { skip: e.wishes.skip, limit: commandPage } : { skip: 0, limit: backPage };
    c.reading = true;
    e.fetches.ask(c, { upTo: 0, former: true, ...range }, (entries) => formerRead(e, c, entries));
    return; // one Read at a time: the step that takes its answer makes the next
  }
}

/** Takes a page of what is kept aside. */
function formerRead(e: Engine, c: ConversationState, entries: readonly Entry[]): void {
  c.reading = false;
  if (isOwn(c)) {
    commandsRead(e, c, entries);
    return;
  }
  if (entries.length === 0) {
    noFormer(e, c);
    return;
  }
  if (c.back > 0) {
    // all were refused, see Outbox.stuck: only the create can help
    c.peeked = true;
    if (entries[0]?.kind !== EntryKind.create) {
      return;
    }
  }
  for (const entry of entries) {
    e.fx.out.store.forget.push({ conversation: c.id, id: entry.clientID });
    sendAgain(e, entry);
    if (entry.kind === EntryKind.create) {
      return; // the messages behind it can't be sent before the group exists
    }
  }
}

/** Queues again the message whose entry the server has lost. */
function sendAgain(e: Engine, entry: Entry): void {
  const m = e.outbox.again(
    newOutgoing({
      id: entry.clientID,
      conversation: entry.kind === EntryKind.create ? "" : entry.conversation,
      kind: entry.kind,
      members: [...entry.members],
      mentions: entry.mentions.map((named) => named.user),
      mentionAll: entry.mentionAll,
      payload: entry.payload,
      refers: entry.refers,
      reaction: entry.reaction,
      removed: entry.removed,
      retain: entry.retain,
      local: entry.local,
      again: true,
    }),
  );
  if (m !== undefined) {
    countBack(e, m, 1);
  }
}

/** Adds n to the messages of m's conversation that are being sent again, if m is one. */
export function countBack(e: Engine, m: OutMessage, n: number): void {
  if (!m.out.again) {
    return;
  }
  const c = e.conversations.byID.get(m.out.conversation || newGroup(e.fx.meta.user, m.out.id));
  if (c !== undefined) {
    c.back += n;
  }
}

/**
 * Takes a page of commands that are kept aside. After the last page it sends again what they come to.
 */
function commandsRead(e: Engine, c: ConversationState, entries: readonly Entry[]): void {
  if (!e.wishes.page(entries)) {
    return;
  }
  let all = true;
  for (const entity of e.wishes.entities()) {
    if (e.outbox.byID.size >= maxOutbox) {
      all = false; // the rest is sent when these have left the outbox
      break;
    }
    if (e.outbox.commands(own(e.fx.meta.user), entity).length > 0) {
      continue; // there is a newer one
    }
    const about = e.conversations.byID.get(e.wishes.subject(entity) ?? "");
    const entry = e.wishes.again(entity, e.settings.get(entity), c.known, about?.known ?? 0);
    if (entry !== undefined) {
      sendAgain(e, entry);
    }
  }
  for (const entity of e.wishes.end()) {
    showSetting(e, entity);
  }
  if (all) {
    e.fx.out.store.forget.push({ conversation: c.id });
    noFormer(e, c);
  }
}
