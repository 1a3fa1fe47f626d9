import { type Entry, erases, type Erasure, type Seq, type UserID } from "../pim/index.js";
import { compareText, noBytes } from "../pim/text.js";
import { type ConversationState } from "./conversation.js";
import { type Engine } from "./engine.js";

// An erase takes the payloads of what its sender wrote up to a seq. The store erases what it has, and
// remembers the seq. The engine erases what comes later and is from before: an entry that waited for a
// gap to close, or an answer that the server made before it erased.
//
// A device that leaves a gap to scrolling may never read the erases in it. It asks for what has changed
// below the gap (ConversationState.stale), and the answer tells the erasures, too.

/** Takes an erasure that the device hears of in c. */
export function erase(e: Engine, c: ConversationState, x: Erasure): void {
  if (x.upTo <= (c.erased.get(x.by) ?? 0)) {
    return;
  }
  erasedUpTo(e, c, x);
  if (c.last !== undefined && erases(x, c.last)) {
    c.last = withoutPayload(c.last);
    c.lastCut = false;
    e.fx.touch(c);
  }
  e.fx.emit({ type: "erased", conversation: c.id, ...x });
}

/** Stores how far the messages of a user in c are erased. */
function erasedUpTo(e: Engine, c: ConversationState, x: Erasure): void {
  c.erased.set(x.by, x.upTo);
  e.fx.out.store.erasures.push({ conversation: c.id, ...x });
}

/**
 * Takes the erasures of c back to the seq to, with its entries. What has been erased up to there stays
 * so. The seqs above are used again.
 */
export function erasuresBack(e: Engine, c: ConversationState, to: Seq): void {
  for (const by of [...c.erased.keys()].sort(compareText)) {
    if (erasureBy(c, by).upTo > to) {
      erasedUpTo(e, c, { by, upTo: to });
    }
  }
}

/** Returns how far the messages of a user in c are erased. */
export function erasureBy(c: ConversationState, by: UserID): Erasure {
  return { by, upTo: c.erased.get(by) ?? 0 };
}

/** Returns entry as it is stored in c: without its payload, if that is erased. */
export function strip(c: ConversationState, entry: Entry): Entry {
  const x = erasureBy(c, entry.sender);
  return x.upTo > 0 && erases(x, entry) ? withoutPayload(entry) : entry;
}

function withoutPayload(entry: Entry): Entry {
  return { ...entry, payload: noBytes, erased: true };
}
