import {
  checkReaction,
  type Entry,
  EntryKind,
  entryKindName,
  type Fold,
  foldOf,
  isRecalled,
  newestOf,
  PimError,
  type Seq,
  unfold,
} from "../pim/index.js";
import { type ConversationState } from "./conversation.js";
import { type Engine } from "./engine.js";
import { erasureBy } from "./erase.js";
import { type Outbox } from "./outbox.js";
import { type Outgoing } from "./types.js";

// Edits, recalls, reactions and pins are entries that refer to a message. What they make of it is its
// fold. The store has it: the engine says what is to be merged into it, as entries and the folds of
// pages come, in any order. So the fold of an old message is right as soon as its page has come,
// whatever lies in the holes above it.
//
// What this device has sent and the server has not answered is not merged: it is in the outbox, and
// the app shows it as if it were the last.

/**
 * Merges what entry, which is stored in the same batch, makes of the message that it refers to. The
 * payload of an erased edit is gone, and the recall that erased it follows.
 */
export function folded(e: Engine, c: ConversationState, entry: Entry): void {
  const f = foldOf(entry);
  if (f !== undefined && !(entry.erased && entry.kind === EntryKind.edit)) {
    merge(e, c, [f]);
  }
}

/**
 * Stores folds of messages of c, and tells the app.
 *
 * An edit may have outlived its message, which was trimmed. Then only a recall matters, since it takes
 * the edit's payload. A fold must not stay: it would until the next trim.
 */
export function merge(e: Engine, c: ConversationState, folds: readonly Fold[]): void {
  const { store } = e.fx.out;
  for (const told of folds) {
    const gone = told.target < c.front;
    if (gone && !isRecalled(told)) {
      continue;
    }
    const f = unfold(erasureBy(c, told.edit.by), told);
    store.folds.push({ conversation: c.id, fold: f });
    if (gone) {
      store.trims.push({ conversation: c.id, front: f.target + 1, former: 0 });
      continue;
    }
    const newest = newestOf(f);
    if (newest > c.folded) {
      c.folded = newest;
      e.fx.touch(c);
    }
    e.fx.emit({ type: "changed", conversation: c.id, seq: f.target });
  }
}

/**
 * Takes one frame of a page of folds, which were merged, and reports whether it goes on with what is
 * stale.
 */
export function refolded(e: Engine, c: ConversationState, from: Seq, to: Seq): boolean {
  if (from > to || from > c.fresh + 1 || to <= c.fresh) {
    return false;
  }
  c.fresh = to;
  if (c.fresh >= c.stale) {
    e.conversations.setStale(c, 0);
    e.fx.touch(c);
  }
  return true;
}

/**
 * Takes back the folds of c to the seq to, with its entries. A fold that had anything above it has
 * left the store, with what it had of below.
 */
export function foldsBack(e: Engine, c: ConversationState, to: Seq): void {
  let stale = Math.min(c.stale, to);
  if (c.folded > to) {
    c.folded = to;
    stale = to;
  }
  e.conversations.setStale(c, stale);
}

/**
 * Takes back what pages told of entries above c's position: the comparison of the entries says nothing
 * of them, and the server may have lost them.
 */
export function doubtFolds(e: Engine, c: ConversationState): void {
  if (c.folded <= c.known) {
    return;
  }
  e.fx.out.store.rewinds.push({ conversation: c.id, after: c.known, sender: e.fx.meta.user });
  foldsBack(e, c, c.known);
  e.fx.touch(c);
  e.fx.emit({ type: "rewound", conversation: c.id, after: c.known });
}

/**
 * Gives up what is in the outbox and refers to an entry of c above the seq to. The entry is gone; when
 * it comes back it has another seq. An erase is of what is left.
 */
export function referredBack(o: Outbox, c: ConversationState, to: Seq): void {
  for (const m of o.ordered()) {
    if (m.out.conversation !== c.id || m.out.refers <= to) {
      continue;
    }
    if (m.out.kind === EntryKind.erase && to > 0) {
      m.out.refers = to;
      m.cut = true;
      o.fx.store(m);
      continue;
    }
    const err = new PimError("not_found", `the server has lost the message at seq ${m.out.refers}`);
    o.leave(m, { state: "failed", err });
  }
}

/**
 * Throws a PimError that says what is wrong with a message that refers to another one, or does not
 * though its kind has to.
 */
export function checkReferring(out: Outgoing): void {
  const { kind } = out;
  const refers = (kind >= EntryKind.edit && kind <= EntryKind.pin) || kind === EntryKind.erase;
  if (refers && out.refers === 0) {
    throw new PimError("invalid", "no message has the seq 0");
  }
  if (!refers && out.refers !== 0) {
    throw new PimError("invalid", `a ${entryKindName(kind)} refers to no message`);
  }
  if (kind === EntryKind.reaction) {
    checkReaction(out.reaction);
  }
}
