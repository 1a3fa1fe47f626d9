import type { ConversationID, UserID } from "../pim/id.js";
import type { Millis, Seq } from "../pim/limits.js";

// What messages say. To the server a payload is opaque; between devices it is plain text in UTF-8, or, behind two bytes that no
// text begins with, an envelope: text with a reply, a forward, mentions, and parts that later versions add. docs/content.md has
// the format; package content is the same in Go.

/** Bytes of a Reply's excerpt. */
export const maxExcerpt = 256;
/** Places in a text that name users. How many users a message notifies is maxMentions. */
export const maxTextMentions = 256;
/** Forwards within each other. */
export const maxForwards = 4;
/** Bytes of a Custom's type. */
export const maxType = 128;

/** Fields of a later version, which every part of a Content may have. */
interface Later {
  /** As they were encoded; missing if there are none. */
  readonly unknown?: Uint8Array | undefined;
}

/** What a message says. Without a part besides text it is a plain text. */
export interface Content extends Later {
  /** What people read; with a forward, what the sender says about it. */
  readonly text: string;
  readonly forward?: Forward | undefined;
  readonly reply?: Reply | undefined;
  /** The message that the thread began with; 0 or missing: none. */
  readonly thread?: Seq | undefined;
  /** In the order of their offsets, none over another. */
  readonly mentions?: readonly TextMention[] | undefined;
  readonly custom?: Custom | undefined;
}

/**
 * A message that stands somewhere else, told again. Nobody has checked that the message was written: it is what the sender says.
 */
export interface Forward extends Later {
  /** The message's payload; parseContent reads it. */
  readonly content: Uint8Array;
  /** Empty: not told. */
  readonly sender: UserID;
  /** Empty: not told. */
  readonly conversation: ConversationID;
  /** In conversation; 0: not told. */
  readonly seq: Seq;
  /** When it was written; 0: not told. */
  readonly time: Millis;
}

/**
 * Names the message of the same conversation that is answered. Who and what is the word of the message's sender, too: a device
 * that has the message shows that.
 */
export interface Reply extends Later {
  readonly seq: Seq;
  readonly sender: UserID;
  /** The beginning of its text. */
  readonly excerpt: string;
}

/**
 * A place in Content.text that names a user. It is counted in bytes of UTF-8, as on the wire, and begins and ends between code
 * points; rangeOf has it as JavaScript counts.
 */
export interface TextMention extends Later {
  /** Empty: everybody. */
  readonly user: UserID;
  readonly offset: number;
  readonly length: number;
}

/** What an app adds for itself. */
export interface Custom extends Later {
  /** As a media type, such as "application/vnd.example.poll". */
  readonly type: string;
  readonly data: Uint8Array;
}
