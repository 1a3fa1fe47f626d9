import { checkBytes, checkString } from "../pim/arguments.js";
import { PimError } from "../pim/errors.js";
import { maxPayload } from "../pim/limits.js";
import { noBytes, utf8 } from "../pim/text.js";
import { codecOf, type Init, type Plain } from "../proto/codec.js";
import { Reader, WireType } from "../proto/wire.js";
import { checkContent, tooManyMentions } from "./check.js";
import { type Content, maxForwards, maxTextMentions } from "./types.js";
import { fields, type Messages } from "./pb/content_fields.js";

/**
 * Begins an envelope. No UTF-8 has the byte 0xFF; the second byte is the format's version.
 */
const mark = Uint8Array.of(0xff, 0x01);

/** Reports whether payload, or the beginning of one, is an envelope. */
export function isEnvelope(payload: Uint8Array): boolean {
  return payload[0] === mark[0] && payload[1] === mark[1];
}

/** Returns what follows the mark of an envelope. */
export function bodyOf(envelope: Uint8Array): Uint8Array {
  return envelope.subarray(mark.length);
}

/** What a sender says of seqs elsewhere nobody has checked. A text that is none is no content. */
const codec = codecOf<Messages>(fields, { strictText: true });

const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

// Fields of an Envelope and, in the second group, of a Forward.
export const textField = 1;
export const forwardField = 2;
const mentionsField = 5;
/** The greatest that this version knows. */
const lastField = 6;

export const contentField = 1;
const lastForwardField = 5;

/**
 * Reads a payload. One that is no envelope is a text. The result shares nothing with payload. It throws a PimError of kind
 * "too_large" over a limit, and of kind "invalid" for all else that encodeContent refuses and for what is neither text nor an
 * envelope; then previewOf may still find a text to show.
 */
export function parseContent(payload: Uint8Array): Content {
  const bytes = checkBytes("payload", payload);
  if (bytes.length > maxPayload) {
    throw tooLarge(bytes.length);
  }
  return parse(bytes, 0);
}

function tooLarge(bytes: number): PimError {
  return new PimError("too_large", `content: ${bytes} bytes, at most ${maxPayload} are allowed`);
}

/** Reads a payload that stands in so many forwards. */
function parse(payload: Uint8Array, forwards: number): Content {
  if (!isEnvelope(payload)) {
    return { text: textOf(payload) };
  }
  const body = bodyOf(payload);
  checkOnce(body);
  const c = contentOf(codec.read("Envelope", body));
  checkContent(c);
  if (c.forward) {
    checkForward(c.forward.content, forwards + 1);
  }
  return c;
}

function textOf(payload: Uint8Array): string {
  try {
    return strict.decode(payload);
  } catch {
    throw new PimError("invalid", `content: ${payload.length} bytes that are neither text nor an envelope`);
  }
}

/** Checks a payload that stands in so many forwards. */
function checkForward(payload: Uint8Array, forwards: number): void {
  if (forwards > maxForwards) {
    throw new PimError("too_large", `content: more than ${maxForwards} forwards in each other`);
  }
  parse(payload, forwards);
}

/**
 * Checks, before anything is decoded, that each part of an envelope, and each field of a forward, stands once: otherwise a preview
 * could show another text than the whole. And that there are not too many mentions: an empty one takes two bytes.
 */
function checkOnce(body: Uint8Array): void {
  let mentions = 0;
  eachField(body, lastField, mentionsField, (number, value) => {
    mentions += number === mentionsField ? 1 : 0;
    if (number === forwardField && value) {
      eachField(value, lastForwardField, 0, () => undefined);
    }
  });
  if (mentions > maxTextMentions) {
    throw tooManyMentions(mentions);
  }
}

/**
 * Calls take for each field of body, with what is in it if it is of bytes. It throws a PimError of kind "invalid" if a field up to
 * last stands twice, but for many.
 */
function eachField(
  body: Uint8Array,
  last: number,
  many: number,
  take: (number: number, value: Uint8Array | undefined) => void,
): void {
  const seen = new Set<number>();
  const r = new Reader(body);
  while (r.pos < r.len) {
    const [number, value] = readable(() => nextField(r));
    if (number <= last && number !== many && seen.has(number)) {
      throw new PimError("invalid", `content: field ${number} stands twice`);
    }
    seen.add(number);
    take(number, value);
  }
}

function nextField(r: Reader): readonly [number: number, value: Uint8Array | undefined] {
  const number = r.tag();
  if (r.wireType === WireType.delimited) {
    return [number, r.bytes()];
  }
  r.skip(number);
  return [number, undefined];
}

function readable<T>(read: () => T): T {
  try {
    return read();
  } catch (err) {
    throw new PimError("invalid", `content: ${err instanceof Error ? err.message : String(err)}`, { cause: err });
  }
}

function contentOf(m: Plain<Messages["Envelope"]>): Content {
  const { forward: f, reply: r, custom: x } = m;
  return {
    text: m.text,
    thread: m.thread,
    mentions: m.mentions.map(({ user, offset, length, unknown }) => ({ user, offset, length, unknown })),
    unknown: m.unknown,
    forward: f && {
      content: f.content,
      sender: f.sender,
      conversation: f.conversation,
      seq: f.seq,
      time: f.timeMs,
      unknown: f.unknown,
    },
    reply: r && { seq: r.seq, sender: r.sender, excerpt: r.excerpt, unknown: r.unknown },
    custom: x && { type: x.type, data: x.data, unknown: x.unknown },
  };
}

/**
 * Returns c as a payload: plain text if c has no other part, else an envelope. What parseContent has read becomes a payload of the
 * same meaning, unknown parts included. It throws a PimError of kind "too_large" over a limit, and of kind "invalid" if something
 * cannot be: a text that is not Unicode, a mention beyond the text, a forward of what parseContent refuses.
 */
export function encodeContent(c: Content): Uint8Array {
  const payload = encoded(c);
  if (payload.length > maxPayload) {
    throw tooLarge(payload.length);
  }
  return payload;
}

function encoded(c: Content): Uint8Array {
  try {
    checkString("text", c.text);
    checkContent(c);
    if (c.forward) {
      checkForward(c.forward.content, 1);
    }
    return isPlain(c) ? utf8(c.text) : envelopeOf(c);
  } catch (err) {
    // Only a c of another type than Content makes it so.
    throw err instanceof TypeError ? new PimError("invalid", `content: ${err.message}`, { cause: err }) : err;
  }
}

/** Reports whether c is encoded as plain text. */
function isPlain(c: Content): boolean {
  const { forward, reply, thread = 0, mentions = [], custom, unknown = noBytes } = c;
  return !forward && !reply && thread === 0 && mentions.length === 0 && !custom && unknown.length === 0;
}

function envelopeOf(c: Content): Uint8Array {
  const f = c.forward;
  const m: Init<Messages["Envelope"]> = {
    text: c.text,
    thread: c.thread,
    mentions: c.mentions ?? [],
    reply: c.reply,
    custom: c.custom,
    forward: f && {
      content: f.content,
      sender: f.sender,
      conversation: f.conversation,
      seq: f.seq,
      timeMs: f.time,
      unknown: f.unknown,
    },
    unknown: c.unknown,
  };
  const body = codec.write("Envelope", m);
  const payload = new Uint8Array(mark.length + body.length);
  payload.set(mark);
  payload.set(body, mark.length);
  return payload;
}
