import { type Setting } from "../engine/index.js";
import {
  CommandKind,
  type ConversationID,
  type Entry,
  EntryKind,
  entityOf,
  inForce,
  makeCommand,
  mentionedSince,
  type Millis,
  noSetting,
  type Seq,
  type Setting as SettingState,
  timeOf,
} from "../pim/index.js";
import { compareText } from "../pim/text.js";
import { type ConversationRow } from "../store/store.js";
import { textOf } from "./message.js";

/** What a list of conversations shows of one. */
export class Info {
  readonly id: ConversationID;
  /** The newest seq that this device has heard of; 0: nothing yet. */
  readonly newest: Seq;
  /** Messages after the last of: read position, own newest message, own joining. */
  readonly unread: number;
  /**
   * Those of the unread that mention the user, by name or all. While a read position within them waits for its answer, they may be
   * more.
   */
  readonly mentions: number;
  /** The newest entry; undefined if it is not known. */
  readonly last: Entry | undefined;
  /** last came from the server's list: its payload is cut, and its device and client message ID are not known. */
  readonly lastCut: boolean;
  /** The user is no longer a member; not of an invitation. */
  readonly left: boolean;
  /**
   * The user is invited into the group, by the sender of last, and is no member: a join of oneself takes the invitation, a leave
   * declines it.
   */
  readonly invited: boolean;
  /** As unread, by Conversation.markUnread. */
  readonly marked: boolean;
  readonly muted: boolean;
  readonly pinned: boolean;
  /** Retention has removed the entries before it, for good; 0: none. */
  readonly front: Seq;
  /** When the newest entry was written, even if retention has removed it. */
  readonly time: Millis;
  /** Messages up to newest, as in Entry.count. */
  readonly count: number;

  /** read: a person reads it. */
  constructor(row: ConversationRow, settings: ReadonlyMap<string, Setting>, read: boolean, now: Millis) {
    const about = (kind: CommandKind): SettingState =>
      settings.get(entityOf(makeCommand({ kind, subject: row.id }))) ?? noSetting;
    const position = about(CommandKind.read);
    this.id = row.id;
    this.newest = row.newest;
    this.unread = read ? 0 : row.count - Math.min(Math.max(position.count, row.ownCount), row.count);
    this.mentions = read ? 0 : mentionedSince(row.mentioned, row.ownCount, row.ownAll, position);
    this.last = row.last;
    this.lastCut = row.lastCut;
    // Of what a user who is no member may read, the newest entry ended the membership, or invites.
    const kind = row.last?.kind;
    this.invited = row.left && (kind === EntryKind.create || kind === EntryKind.join);
    this.left = row.left && !this.invited;
    this.marked = inForce(about(CommandKind.unread), 0);
    this.muted = inForce(about(CommandKind.mute), now);
    this.pinned = inForce(about(CommandKind.pin), now);
    this.front = row.front;
    this.time = Math.max(row.last === undefined ? 0 : timeOf(row.last), row.goneAt);
    this.count = row.count;
  }

  /** Returns the text that last shows, see previewOf. */
  text(): string {
    return this.last === undefined ? "" : textOf(this.last.payload, this.lastCut);
  }
}

/** Orders a list: pinned ones first, then by the time of the last entry, the newest first. */
export function compareInfos(a: Info, b: Info): number {
  return Number(b.pinned) - Number(a.pinned) || b.time - a.time || compareText(a.id, b.id);
}

/** Returns what is known of a conversation that the device has not heard of. */
export function unheardOf(id: ConversationID): ConversationRow {
  const none = { known: 0, newest: 0, count: 0, own: 0, ownCount: 0, ownAll: 0, folded: 0, stale: 0, front: 0, lost: 0 };
  return { id, ...none, mentioned: { named: 0, all: 0 }, last: undefined, lastCut: false, left: false, holes: [], goneAt: 0 };
}
