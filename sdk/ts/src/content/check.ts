import { PimError } from "../pim/errors.js";
import { checkConversationID, checkUserID } from "../pim/id.js";
import { byteLength, isWellFormed, utf8 } from "../pim/text.js";
import { type Content, type Forward, maxExcerpt, maxTextMentions, maxType, type Reply, type TextMention } from "./types.js";

/** Throws a PimError if something is wrong with c, apart from the content of its forward. */
export function checkContent(c: Content): void {
  if (!isWellFormed(c.text)) {
    throw new PimError("invalid", "content: the text is not valid Unicode");
  }
  checkMentions(c.text, c.mentions ?? []);
  if (c.reply) {
    checkReply(c.reply);
  }
  if (c.forward) {
    checkForwardFields(c.forward);
  }
  if (c.custom) {
    checkType(c.custom.type);
  }
}

function checkMentions(text: string, mentions: readonly TextMention[]): void {
  if (mentions.length > maxTextMentions) {
    throw tooManyMentions(mentions.length);
  }
  const bytes = mentions.length > 0 ? utf8(text) : new Uint8Array(0);
  /** Reports whether a code point starts at i, or the text ends there. */
  const starts = (i: number): boolean => ((bytes[i] ?? 0) & 0xc0) !== 0x80;
  let end = 0; // of the mention before
  for (const m of mentions) {
    if (m.user !== "") {
      checkUserID(m.user);
    }
    if (m.offset < end || m.length < 1 || m.offset + m.length > bytes.length) {
      const place = `a mention at ${m.offset} of ${m.length} bytes`;
      throw new PimError("invalid", `content: ${place}, in a text of ${bytes.length} and after a mention that ends at ${end}`);
    }
    end = m.offset + m.length;
    if (!starts(m.offset) || !starts(end)) {
      throw new PimError("invalid", `content: a mention at ${m.offset} of ${m.length} bytes cuts a code point`);
    }
  }
}

/** Returns the error of n mentions, which are too many. */
export function tooManyMentions(n: number): PimError {
  return new PimError("too_large", `content: ${n} mentions, at most ${maxTextMentions} are allowed`);
}

function checkReply(r: Reply): void {
  if (r.seq === 0) {
    throw new PimError("invalid", "content: a reply to no seq");
  }
  const bytes = byteLength(r.excerpt);
  if (bytes > maxExcerpt) {
    throw new PimError("too_large", `content: an excerpt of ${bytes} bytes, at most ${maxExcerpt} are allowed`);
  }
  if (!isWellFormed(r.excerpt)) {
    throw new PimError("invalid", "content: the excerpt is not valid Unicode");
  }
  checkUserID(r.sender);
}

function checkForwardFields(f: Forward): void {
  if (f.sender !== "") {
    checkUserID(f.sender);
  }
  if (f.conversation !== "") {
    checkConversationID(f.conversation);
  }
}

/** Checks that t is two words of RFC 6838, section 4.2, with a "/" between. */
function checkType(t: string): void {
  const bytes = byteLength(t);
  if (bytes > maxType) {
    throw new PimError("too_large", `content: a type of ${bytes} bytes, at most ${maxType} are allowed`);
  }
  if (!/^[a-z0-9][a-z0-9!#$&\-^_.+]*\/[a-z0-9][a-z0-9!#$&\-^_.+]*$/i.test(t)) {
    throw new PimError("invalid", `content: ${JSON.stringify(t)} is no type such as application/vnd.example.poll`);
  }
}
