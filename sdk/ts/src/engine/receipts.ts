import { type Asks } from "./ask.js";
import { type PIMReceiptResp, type ReceiptBody } from "./frames.js";
import { type Receipt } from "./types.js";

/** Takes the answer to an AskReceipts. */
export function told(s: Asks, m: PIMReceiptResp): void {
  const ask = s.active.get(m.requestId);
  if (ask?.input.type !== "askReceipts") {
    return;
  }
  s.hand(ask, {
    id: ask.input.id,
    receipts: {
      delivered: m.delivered,
      read: m.read,
      readAt: m.readMs,
      messages: receiptsOf(m.receipts),
      readers: m.readers.map((r) => ({ user: r.user, read: r.read, at: r.readMs })),
      next: m.nextAfter,
    },
  });
}

export function receiptsOf(all: readonly ReceiptBody[]): Receipt[] {
  return all.map((m) => ({ seq: m.seq, read: m.read, members: m.members }));
}
