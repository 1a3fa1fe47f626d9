// How tests of stores call them.
import type { Batch, Snapshot } from "../src/engine/types.js";
import { newBatch } from "../src/engine/io.js";
import type { Entry, Seq } from "../src/pim/index.js";
import { compareText } from "../src/pim/text.js";
import type { Store } from "../src/store/store.js";

/** Opens a new store the first time, and afterwards the same store with what it holds. */
export type Open = () => Promise<Store>;

/** Returns a batch with these changes. */
export function batch(changes: Partial<Batch>): Batch {
  return { ...newBatch(), ...changes };
}

export function apply(s: Store, changes: Partial<Batch>): Promise<void> {
  return s.apply(batch(changes));
}

export async function reopen(s: Store, open: Open): Promise<Store> {
  await s.close();
  return open();
}

/** Loads s, with lists in an order, and without last, which need not be loaded. */
export async function load(s: Store): Promise<Snapshot> {
  const got = await s.load();
  const conversations = got.conversations.map((c) => ({ ...c, last: undefined, lastCut: false }));
  return {
    ...got,
    conversations: conversations.sort((a, b) => compareText(a.id, b.id)),
    outbox: got.outbox.sort((a, b) => a.number - b.number),
    settings: got.settings.sort((a, b) => compareText(a.entity, b.entity)),
    erasures: got.erasures.sort((a, b) => compareText(a.conversation, b.conversation) || compareText(a.by, b.by)),
    former: got.former.sort(compareText),
  };
}

export const seqs = (list: readonly Entry[]): Seq[] => list.map((e) => e.seq);
