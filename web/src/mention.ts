import type { TextMention, UserID } from "@pim-im/client";
import { maxMentions } from "@pim-im/client";

/** How a text names everybody. */
export const everybody = "all";

/** A word that begins with @, at the start of the text or behind what belongs to no name. */
const named = /(?<![\p{L}\p{N}._+@-])@([\p{L}\p{N}._+@-]+)/gu;

const encoder = new TextEncoder();

/** What a text mentions. */
export interface Mentions {
  /** The places in the text, counted in bytes of UTF-8. */
  readonly mentions: TextMention[];
  readonly users: UserID[];
  /** Everybody is mentioned. */
  readonly all: boolean;
}

/** Returns whom of members the text names as @NAME, or as @all. A full stop behind a name does not belong to it. */
export function mentionsIn(text: string, members: readonly UserID[]): Mentions {
  const mentions: TextMention[] = [];
  const users = new Set<UserID>();
  let all = false;
  if (members.length === 0) {
    return { mentions, users: [], all };
  }
  for (const match of text.matchAll(named)) {
    const word = match[1] ?? "";
    const name = [word, word.replace(/[.+-]+$/u, "")].find((n) => n === everybody || members.includes(n));
    if (name === undefined || users.size === maxMentions) {
      continue;
    }
    const member = members.includes(name); // a member may have the name "all"
    all ||= !member;
    if (member) {
      users.add(name);
    }
    const offset = encoder.encode(text.slice(0, match.index)).length;
    mentions.push({ user: member ? name : "", offset, length: encoder.encode(`@${name}`).length });
  }
  return { mentions, users: [...users], all };
}

/** Returns the name that is being typed before the caret, without its @; undefined if none is. */
export function typedName(text: string, caret: number): string | undefined {
  return /(?:^|[^\p{L}\p{N}._+@-])@([\p{L}\p{N}._+-]*)$/u.exec(text.slice(0, caret))?.[1];
}
