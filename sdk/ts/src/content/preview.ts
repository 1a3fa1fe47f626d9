import { utf8 } from "../pim/text.js";
import { Reader, WireType } from "../proto/wire.js";
import { maxForwards } from "./types.js";
import { bodyOf, contentField, forwardField, isEnvelope, textField } from "./encoding.js";

/** What stands for a payload where there is room for nothing else. */
export interface Preview {
  /** Its text, or, if it has none, the text of the message that it forwards; empty if there is none. */
  readonly text: string;
  /** Whether that is all of the text. */
  readonly whole: boolean;
}

/**
 * Returns the text that stands for a payload. payload may be the beginning of one (cut), as in a server's list. Then the text is
 * as far as it is there, and without half a code point at its end. It shows what it can of payloads that parseContent refuses,
 * too, and throws nothing: the text is empty if payload is neither text nor an envelope.
 */
export function previewOf(payload: Uint8Array, cut = false): Preview {
  return preview(payload, !cut, 0);
}

function preview(payload: Uint8Array, whole: boolean, forwards: number): Preview {
  if (!isEnvelope(payload)) {
    return textOf(payload, whole);
  }
  const body = bodyOf(payload);
  const text = find(body, textField);
  if (text.value && text.value.length > 0) {
    return textOf(text.value, text.whole);
  }
  const forward = find(body, forwardField);
  if (!forward.value || forwards === maxForwards) {
    return { text: "", whole };
  }
  const inner = find(forward.value, contentField);
  return preview(inner.value ?? new Uint8Array(0), forward.whole && inner.whole, forwards + 1);
}

/** Returns text without the incomplete code point that it may end with if it is not whole; "" if it is no text. */
function textOf(text: Uint8Array, whole: boolean): Preview {
  try {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });
    return { text: decoder.decode(text, { stream: !whole }), whole }; // a stream leaves out what is incomplete
  } catch {
    return { text: "", whole: false };
  }
}

/** What was found of a field. */
interface Found {
  readonly value?: Uint8Array;
  /** Whether the value is there to its end; without the field, whether body can be read to its end. */
  readonly whole: boolean;
}

/** Finds the first value of the field, a part of body. */
function find(body: Uint8Array, field: number): Found {
  const r = new Reader(body);
  try {
    while (r.pos < r.len) {
      const number = r.tag();
      if (number === field && r.wireType === WireType.delimited) {
        const length = Number(r.uint64());
        return { value: body.subarray(r.pos, r.pos + length), whole: length <= r.len - r.pos };
      }
      r.skip(number);
    }
    return { whole: true };
  } catch {
    return { whole: false };
  }
}

/** Returns the beginning of text, at most so many bytes of UTF-8, without half a code point. */
export function cutBytes(text: string, most: number): string {
  const bytes = utf8(text);
  return bytes.length <= most ? text : textOf(bytes.subarray(0, most), false).text;
}
