import { checkConversationID, type ConversationID, type Seq } from "../pim/index.js";
import { type ConversationState, isOwn } from "./conversation.js";
import { type Engine } from "./engine.js";
import { type Front } from "./frames.js";
import { setHoles } from "./gaps.js";
import { holesWithout } from "./holes.js";
import { refusal } from "./refusal.js";

// Retention removes the oldest entries of a conversation from the server, and from every device: the
// server tells from which seq on the log still has entries, its front: in answers to pulls, with the
// conversations that the sync list names, and in a list of fronts that this device has not acknowledged
// (toldFronts). A device drops what it has before the front. Nothing there is missing any more: holes
// below it are closed, and a message of the user that is kept aside until its entry comes (keepUnseen)
// is not sent again.

/**
 * Takes note that c has no entries before the seq told. newest is the newest seq that the user may
 * read.
 */
export function trimmed(e: Engine, c: ConversationState, told: Seq, newest: Seq): void {
  const front = Math.min(told, newest + 1);
  if (front <= Math.max(c.front, 1) || e.cfg.watch || c.doubt !== undefined || isOwn(c)) {
    return;
  }
  const former = c.lost === 0 ? front : Math.min(front, c.lost);
  c.front = front;
  c.unseen = c.unseen.filter((seq) => seq >= former);
  setHoles(e, c, holesWithout(c.holes, 1, front - 1));
  e.conversations.trimAhead(c, front);
  if (c.last !== undefined && c.last.seq < front) {
    c.last = undefined;
    c.lastCut = false;
  }
  if (c.stale < front) {
    e.conversations.setStale(c, 0);
  }
  e.fx.out.store.trims.push({ conversation: c.id, front, former });
  e.fx.touch(c);
  e.fx.emit({ type: "trimmed", conversation: c.id, front });
}

/** How many fronts the server tells at once, at most. After so many there may be more. */
export const frontsAtOnce = 100;

/**
 * Takes what the first page of the sync list tells of fronts: those that this device has not
 * acknowledged. A front is acknowledged in the Output whose Batch has the Trim, so not before it is
 * stored. The server tells a front again until then.
 */
export function toldFronts(e: Engine, fronts: readonly Front[]): void {
  for (const f of fronts.slice(0, frontsAtOnce)) {
    if (refusal(() => checkConversationID(f.conversation)) !== undefined) {
      continue; // so that no name is longer than an ID
    }
    const c = e.conversations.byID.get(f.conversation); // undefined: the device has nothing of it
    if (c?.doubt !== undefined) {
      // What is known of c, and so how far it may be cut, is not certain yet. The next sync tells the
      // front again.
      e.doubts.front = true;
      continue;
    }
    if (c !== undefined) {
      trimmed(e, c, f.front, c.newest);
    }
    e.acks.front(f);
  }
}

/**
 * Takes back the front of c, which goes back to the seq to: the entries that come now may be others.
 */
export function frontBack(e: Engine, c: ConversationState, to: Seq): void {
  c.front = Math.min(c.front, to + 1);
  for (const t of e.fx.out.store.trims) {
    if (t.conversation === c.id) {
      t.front = Math.min(t.front, to + 1);
      t.former = Math.min(t.former, to + 1);
    }
  }
}

/** Notes that the server may have lost the entries of c from the seq from on. */
export function mayBeLost(e: Engine, c: ConversationState, from: Seq): void {
  if (c.lost === 0 || from < c.lost) {
    c.lost = from;
    e.fx.touch(c);
  }
}

/**
 * Returns the first seq of a conversation that retention has left, as far as this device has heard; 0
 * if nothing was removed.
 */
export function frontOf(e: Engine, id: ConversationID): Seq {
  return e.conversations.byID.get(id)?.front ?? 0;
}
