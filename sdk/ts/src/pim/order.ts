import type { Entry } from "./entry.js";
import type { Millis, Seq } from "./limits.js";

// The display order. The source article sorts one sender's messages by local time and different senders' by server time. As
// a pairwise rule that has cycles. pim's rule is a total order; the writer computes an entry's place once and stores it with
// the entry, and every client displays by (anchor, L', seq). order.go in the root of the repository has the whole rule, with
// the writer's part, which no client needs. Worked cases: testdata/display-order.json.

/**
 * How far behind the server's clock a local time may lie, in milliseconds. It equals the time in which the SDK resends by
 * itself.
 */
export const orderWindow: Millis = 180_000;

/** How far ahead of the server's clock a local time may lie, in milliseconds. */
export const orderSlack: Millis = 1_000;

/**
 * By how much the times of two nodes of one cluster may differ, without a device that moves from one to
 * the other taking that for a clock that was set back.
 */
export const nodesApart: Millis = orderSlack / 2;

/**
 * Bounds a local time by the server time of the same entry, so that a wrong or forged clock puts it at most orderWindow too
 * early or orderSlack too late.
 */
export function clamp(local: Millis, server: Millis): Millis {
  return Math.min(Math.max(local, server - orderWindow), server + orderSlack);
}

/**
 * Returns L' (section 9 of docs/protocol.md), the time that orders the entry among its sender's entries: order if the writer
 * has set it, else the local time, clamped and moved by ahead.
 */
export function orderTime(e: Pick<Entry, "local" | "server" | "ahead" | "order">): Millis {
  return e.order !== 0 ? e.order : clamp(e.local, e.server - e.ahead) + e.ahead;
}

/**
 * Returns when the entry was written, by the writer's clock at that moment. It is the time to show to people. It is smaller
 * than that of an earlier entry if the clock was set back in between.
 */
export function timeOf(e: Pick<Entry, "server" | "ahead">): Millis {
  return e.server - e.ahead;
}

/** A position in the display order of one conversation. */
export interface Place {
  readonly anchor: Seq;
  /** L', see orderTime. */
  readonly local: Millis;
  readonly seq: Seq;
}

/** Returns the entry's position in the display order. */
export function placeOf(e: Entry): Place {
  return { anchor: e.anchor, local: orderTime(e), seq: e.seq };
}

/**
 * Returns a negative number if p is displayed before q, a positive one if after it, and 0 only if they are the same
 * entry's.
 */
export function comparePlaces(p: Place, q: Place): number {
  return p.anchor - q.anchor || p.local - q.local || p.seq - q.seq;
}
