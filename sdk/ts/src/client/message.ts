import { type Content, isEnvelope, parseContent, previewOf } from "../content/index.js";
import { type SendState } from "../engine/types.js";
import {
  type Entry,
  EntryKind,
  type Fold,
  isPinned,
  isRecalled,
  type PimError,
  reactionsInForce,
  type UserID,
} from "../pim/index.js";

/** The reactions of all users with one text. */
export interface Reactions {
  text: string;
  /** Ascending. */
  users: UserID[];
  /** One of them is the user of this device. */
  mine: boolean;
}

/** One line of a View. It never changes: when the line does, a new Message takes its place. */
export class Message {
  readonly #user: UserID; // of this device

  /**
   * @param entry of a message in the outbox: without seq, server time and sender; of one that was recalled or erased: erased
   * @param state "sent": the entry is in the log
   * @param err why it waits or has failed
   * @param fold what other entries have made of the message, those of this device in the outbox included: they count as the last
   */
  constructor(
    readonly entry: Entry,
    readonly state: SendState,
    readonly err: PimError | undefined,
    readonly fold: Fold,
    user: UserID,
  ) {
    this.#user = user;
  }

  /**
   * Returns the text that the message shows, see previewOf. It is that of the last edit, and empty if the message was recalled.
   */
  text(): string {
    return textOf(this.payload(), false);
  }

  /** Returns what the message says now. It throws as parseContent does. */
  content(): Content {
    return parseContent(this.payload());
  }

  /** Returns the payload that is displayed: that of the last edit, if there was one; empty if it was recalled or erased. */
  payload(): Uint8Array {
    return this.edited() ? this.fold.edit.payload : this.entry.payload;
  }

  /** Reports whether the message was edited. */
  edited(): boolean {
    return this.fold.edit.seq !== 0;
  }

  /** Reports whether the message was recalled: nothing of it is displayed. fold.recall says by whom. */
  recalled(): boolean {
    return isRecalled(this.fold);
  }

  /** Reports whether nothing is left of what the message said: it was recalled, or its sender has erased it. */
  erased(): boolean {
    return this.entry.erased && !this.edited();
  }

  /** Reports whether the message is pinned for all. */
  pinned(): boolean {
    return isPinned(this.fold);
  }

  /** Reports whether the message is in the outbox. */
  pending(): boolean {
    return this.state !== "sent";
  }

  /** Returns the reactions to the message, ascending by text. */
  reactions(): Reactions[] {
    const all: Reactions[] = [];
    for (const { text, user } of reactionsInForce(this.fold)) {
      let last = all.at(-1);
      if (last?.text !== text) {
        last = { text, users: [], mine: false };
        all.push(last);
      }
      last.users.push(user);
      last.mine ||= user === this.#user;
    }
    return all;
  }
}

/** Returns the text of payload, or of the beginning of one (cut). What is neither text nor an envelope is read as text. */
export function textOf(payload: Uint8Array, cut: boolean): string {
  if (isEnvelope(payload)) {
    return previewOf(payload, cut).text;
  }
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(payload, { stream: cut });
}

/** Reports whether an entry of this kind is part of another message's display, and no line of its own. */
export function refers(kind: EntryKind): boolean {
  return kind >= EntryKind.edit && kind <= EntryKind.pin;
}
