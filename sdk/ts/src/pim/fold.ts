import { type Entry, EntryKind } from "./entry.js";
import { PimError } from "./errors.js";
import type { UserID } from "./id.js";
import type { Millis, Seq } from "./limits.js";
import { timeOf } from "./order.js";
import { byteLength, compareText, isWellFormed, noBytes } from "./text.js";

/** How many bytes a reaction has at most: enough for an emoji of several code points, and for a short word. */
export const maxReaction = 32;

/**
 * What the entries that refer to a message have made of it: whether it was edited, recalled or pinned, and who has reacted
 * how (section 19 of docs/protocol.md). It follows from these entries alone, in whatever order they are merged.
 */
export interface Fold {
  /** The message. */
  readonly target: Seq;
  /** The fold has what every entry up to this seq has made of the message. 0: only what the entries that were merged have. */
  readonly upto: Seq;
  /** The last edit; its seq is 0 if there is none. */
  readonly edit: Edit;
  /** The last recall; its seq is 0 if the message was not recalled. */
  readonly recall: Mark;
  /** The last pinning, or its end; its seq is 0 if there was none. */
  readonly pin: Mark;
  /**
   * Of users who have reacted, ascending by text, then user. A removed one is no reaction any more; it is kept until upto has
   * passed it.
   */
  readonly reactions: readonly Reaction[];
}

/** A message's payload since it was edited. */
export interface Edit {
  /** Of the entry that edited it. */
  readonly seq: Seq;
  readonly by: UserID;
  /** When, to show to people. */
  readonly time: Millis;
  readonly payload: Uint8Array;
}

/** Who did something to a message, and when. */
export interface Mark {
  /** Of the entry. */
  readonly seq: Seq;
  readonly by: UserID;
  readonly time: Millis;
  /** Of a pin: it was taken away. */
  readonly removed: boolean;
}

/** One user's reaction to a message. */
export interface Reaction {
  /** What is shown, mostly an emoji. */
  readonly text: string;
  readonly user: UserID;
  /** Of the entry that gave it, or took it back. */
  readonly seq: Seq;
  readonly removed: boolean;
}

/** No edit. */
export const noEdit: Edit = { seq: 0, by: "", time: 0, payload: noBytes };

/** No mark. */
export const noMark: Mark = { seq: 0, by: "", time: 0, removed: false };

/** Returns the fold of a message to which nothing refers, as far as is known. */
export function emptyFold(target: Seq): Fold {
  return { target, upto: 0, edit: noEdit, recall: noMark, pin: noMark, reactions: [] };
}

/** Returns what e alone makes of the message that it refers to; undefined if it refers to none. It shares e's payload. */
export function foldOf(e: Entry): Fold | undefined {
  if (e.refers === 0) {
    return undefined;
  }
  const f = emptyFold(e.refers);
  const mark: Mark = { seq: e.seq, by: e.sender, time: timeOf(e), removed: e.removed };
  switch (e.kind) {
    case EntryKind.edit:
      return { ...f, edit: { seq: e.seq, by: e.sender, time: timeOf(e), payload: e.payload } };
    case EntryKind.recall:
      return { ...f, recall: mark };
    case EntryKind.pin:
      return { ...f, pin: mark };
    case EntryKind.reaction:
      return { ...f, reactions: [{ text: e.reaction, user: e.sender, seq: e.seq, removed: e.removed }] };
    default:
      return undefined;
  }
}

/**
 * Returns what f and g know together. Both must be of the same message of the same log. The order in which folds are merged
 * makes no difference, and a fold that is merged again changes nothing.
 *
 * Of two edits the one with the greater seq counts, and so do marks and the reactions of one user with one text. A fold with
 * upto has everything up to there, so what it lacks of that is gone. Nothing but the recall is left of a message that was
 * recalled. The result shares payloads with f and g.
 */
export function mergeFolds(f: Fold, g: Fold): Fold {
  const merged: Fold = {
    target: f.target,
    upto: Math.max(f.upto, g.upto),
    edit: g.edit.seq > f.edit.seq ? g.edit : f.edit,
    recall: g.recall.seq > f.recall.seq ? g.recall : f.recall,
    pin: newer(f.pin, g.pin, f.upto, g.upto) ?? noMark,
    reactions: mergeReactions(f, g),
  };
  return isRecalled(merged) ? { ...merged, edit: noEdit, pin: noMark, reactions: [] } : merged;
}

function mergeReactions(f: Fold, g: Fold): Reaction[] {
  const merged: Reaction[] = [];
  let i = 0;
  let j = 0;
  for (;;) {
    const mine = f.reactions[i];
    const theirs = g.reactions[j];
    if (!mine && !theirs) {
      return merged;
    }
    const order = !theirs ? -1 : !mine ? 1 : compareReactions(mine, theirs);
    const r = newer(order <= 0 ? mine : undefined, order >= 0 ? theirs : undefined, f.upto, g.upto);
    if (r) {
      merged.push(r);
    }
    i += order <= 0 ? 1 : 0;
    j += order >= 0 ? 1 : 0;
  }
}

/** Orders reactions by text, then user. */
function compareReactions(a: Reaction, b: Reaction): number {
  return compareText(a.text, b.text) || compareText(a.user, b.user);
}

/**
 * Returns the newer one of a, of a fold with everything up to the seq aUpto, and b, of one with everything up to bUpto:
 * undefined if there is neither, or the newer one was taken back. Seq 0 stands for undefined.
 */
function newer<T extends { readonly seq: Seq; readonly removed: boolean }>(
  a: T | undefined,
  b: T | undefined,
  aUpto: Seq,
  bUpto: Seq,
): T | undefined {
  const aSeq = a?.seq ?? 0;
  const bSeq = b?.seq ?? 0;
  if (bSeq > aSeq) {
    return newer(b, a, bUpto, aUpto);
  }
  if (!a || (aSeq <= bUpto && aSeq !== bSeq)) {
    return undefined; // the other fold would have it, if it had not been taken back
  }
  return a.removed && aSeq <= Math.max(aUpto, bUpto) ? undefined : a;
}

/** Returns the greatest seq that f names or covers: f follows from entries up to there. */
export function newestOf(f: Fold): Seq {
  return f.reactions.reduce((newest, r) => Math.max(newest, r.seq), Math.max(f.upto, f.edit.seq, f.recall.seq, f.pin.seq));
}

/** Reports whether the message was recalled. */
export function isRecalled(f: Fold): boolean {
  return f.recall.seq !== 0;
}

/** Reports whether the recall in f erases e's payload: e is the message or one of its edits. e must be of the same log. */
export function recallErases(f: Fold, e: Entry): boolean {
  const itself = e.kind === EntryKind.message && e.seq === f.target;
  return isRecalled(f) && (itself || (e.kind === EntryKind.edit && e.refers === f.target));
}

/** Reports whether the message is pinned. */
export function isPinned(f: Fold): boolean {
  return f.pin.seq !== 0 && !f.pin.removed;
}

/** Returns the reactions that are in force, ascending by text, then user. */
export function reactionsInForce(f: Fold): Reaction[] {
  return f.reactions.filter((r) => !r.removed);
}

/**
 * Throws a PimError of kind "invalid" or "too_large" if text is not a reaction: it has 1 to maxReaction bytes of UTF-8
 * without control characters.
 */
export function checkReaction(text: string): void {
  if (text === "") {
    throw new PimError("invalid", "an empty reaction");
  }
  const bytes = byteLength(text);
  if (bytes > maxReaction) {
    throw new PimError("too_large", `a reaction of ${bytes} bytes, at most ${maxReaction} are allowed`);
  }
  if (!isWellFormed(text) || /\p{Cc}/u.test(text)) {
    throw new PimError("invalid", `reaction ${JSON.stringify(text)} is not Unicode, or has a control character`);
  }
}
