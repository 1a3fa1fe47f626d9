import type { Entry } from "./entry.js";
import type { UserID } from "./id.js";

/** How many users a message names at most. */
export const maxMentions = 64;

/** A user whom a message names. */
export interface Mention {
  readonly user: UserID;
  /**
   * The count of the entry that is the user's newest message, or of the create or join that made the user a member if that is
   * newer, and the messages since then, up to and including this one, that name the user. It is 0 if this one does not count:
   * the user is no member, or the sender, or the message mentions all. It never decreases with the seq.
   */
  readonly count: number;
}

/**
 * How often the messages up to some seq mention a user. Both numbers only grow with the seq, so what is not read is a
 * difference, see mentionedSince.
 */
export interface Mentioned {
  /** The count of the last Mention of the user; 0: none. */
  readonly named: number;
  /** The allCount of the entry. */
  readonly all: number;
}

/**
 * Returns how many messages mention the user after both of two seqs: that of an entry that makes everything before it read,
 * which has the count own and the allCount ownAll, and a read position.
 */
export function mentionedSince(m: Mentioned, own: number, ownAll: number, read: Mentioned): number {
  return Math.max(0, m.named - Math.max(own, read.named)) + Math.max(0, m.all - Math.max(ownAll, read.all));
}

/** Returns the count of the user's Mention in e, 0 if there is none. */
export function namedIn(e: Entry, user: UserID): number {
  return e.mentions.find((m) => m.user === user)?.count ?? 0;
}
