import { type Entry, EntryKind } from "./entry.js";
import { type Fold, noEdit } from "./fold.js";
import type { UserID } from "./id.js";
import type { Seq } from "./limits.js";

/**
 * Says that what by wrote in a conversation is erased up to the seq upTo: the payloads of by's entries up to there, and those
 * of the edits of by's messages up to there, whenever the edits were made. What others wrote stays, and so does what has no
 * payload, as by's reactions. Erasures may be applied at any time, in any order, and again.
 */
export interface Erasure {
  readonly by: UserID;
  readonly upTo: Seq;
}

/** Returns the erasure that e asks for; undefined if it is not of kind erase. */
export function erasureOf(e: Entry): Erasure | undefined {
  return e.kind === EntryKind.erase ? { by: e.sender, upTo: e.refers } : undefined;
}

/** Reports whether x erases what by wrote at seq. Of an edit, seq is that of the message. */
export function covers(x: Erasure, by: UserID, seq: Seq): boolean {
  return by === x.by && seq <= x.upTo;
}

/** Reports whether x erases the payload of e, an entry of the same conversation that has one. */
export function erases(x: Erasure, e: Entry): boolean {
  const edit = e.kind === EntryKind.edit;
  const has = e.payload.length > 0 || e.kind === EntryKind.message || edit;
  return covers(x, e.sender, edit ? e.refers : e.seq) && !e.erased && has;
}

/**
 * Returns f, a fold of the same conversation, without the edit that x erases; f itself if there is none. Only its sender
 * edits a message.
 */
export function unfold(x: Erasure, f: Fold): Fold {
  return f.edit.seq !== 0 && covers(x, f.edit.by, f.target) ? { ...f, edit: noEdit } : f;
}
