import type { Entry } from "../pim/entry.js";
import type { Seq } from "../pim/limits.js";
import { timeOf } from "../pim/order.js";
import { utf8 } from "../pim/text.js";
import { parseContent } from "./encoding.js";
import { cutBytes, previewOf } from "./preview.js";
import { type Forward, maxExcerpt, type Reply, type TextMention } from "./types.js";

/** Returns the mention's place in text, such that text.slice(...rangeOf(text, m)) is it. */
export function rangeOf(text: string, m: TextMention): readonly [start: number, end: number] {
  const bytes = utf8(text);
  const units = (upto: number): number => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, upto)).length;
  return [units(m.offset), units(m.offset + m.length)];
}

/** Returns a Reply to the message e. */
export function replyTo(e: Entry): Reply {
  return { seq: e.seq, sender: e.sender, excerpt: cutBytes(previewOf(e.payload).text, maxExcerpt) };
}

/** Returns the thread that the message e is in; 0: none. */
export function threadOf(e: Entry): Seq {
  try {
    return parseContent(e.payload).thread ?? 0;
  } catch {
    return 0;
  }
}

/**
 * Returns the message e as a Forward that tells where it stands. A message of a conversation whose members shall not be known
 * gets a Forward of its content alone. It shares e's payload.
 */
export function forwardOf(e: Entry): Forward {
  return { content: e.payload, sender: e.sender, conversation: e.conversation, seq: e.seq, time: timeOf(e) };
}
