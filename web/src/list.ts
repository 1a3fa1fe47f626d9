import { type ConversationID, EntryKind, type Info, type Pending, previewOf } from "@pim-im/client";

/** What the list shows of a conversation. */
export interface Listed extends Pick<
  Info,
  "id" | "unread" | "mentions" | "last" | "left" | "invited" | "marked" | "muted" | "pinned" | "time" | "text"
> {
  /** The device has heard of it. What is only in the outbox may not exist. */
  readonly known: boolean;
  /** What the person wrote last in it, if that is in the outbox. */
  readonly waiting?: Waiting;
}

/** A message of the outbox. */
export interface Waiting {
  readonly text: string;
  /** It was refused, and is not sent again by itself. */
  readonly failed: boolean;
}

/**
 * Adds what is in the outbox to the SDK's list. A message that has failed stays in the outbox until the person discards it, so it
 * counts only until something newer came. A conversation that the device has not heard of stands where its message would be.
 */
export function listOf(infos: readonly Info[], outbox: readonly Pending[]): Listed[] {
  const times = new Map(infos.map((info) => [info.id, info.time]));
  const newest = new Map<ConversationID, Pending>();
  for (const p of outbox) {
    const overtaken = p.state === "failed" && p.queued < (times.get(p.conversation) ?? 0);
    if (p.kind === EntryKind.message && p.conversation && !overtaken) {
      newest.set(p.conversation, p);
    }
  }
  const waitingOf = (p: Pending): Waiting => ({ text: previewOf(p.payload).text, failed: p.state === "failed" });
  const listed = infos.map((info): Listed => {
    const { id, unread, mentions, last, left, invited, marked, muted, pinned, time } = info;
    const about = { id, unread, mentions, last, left, invited, marked, muted, pinned, time };
    const line = { ...about, known: true, text: () => info.text() };
    const p = newest.get(id);
    return p === undefined ? line : { ...line, waiting: waitingOf(p) };
  });
  const none = {
    known: false,
    unread: 0,
    mentions: 0,
    last: undefined,
    left: false,
    invited: false,
    marked: false,
    muted: false,
    pinned: false,
  };
  const begun = [...newest.values()]
    .filter((p) => !times.has(p.conversation))
    .map((p): Listed => ({ ...none, id: p.conversation, time: p.queued, text: () => "", waiting: waitingOf(p) }));
  return begun.length === 0
    ? listed
    : [...begun, ...listed].sort((a, b) => Number(b.pinned) - Number(a.pinned) || b.time - a.time);
}
