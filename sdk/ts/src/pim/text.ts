// Strings of JavaScript are UTF-16, those of the protocol UTF-8. Whatever is ordered or measured on the wire, or by another
// SDK, is ordered and measured as UTF-8 here.

const encoder = new TextEncoder();

/** No bytes. It is shared: an empty array cannot be written to. */
export const noBytes = new Uint8Array(0);

/** Returns s as UTF-8. A lone surrogate becomes U+FFFD. */
export function utf8(s: string): Uint8Array {
  return encoder.encode(s);
}

/** Returns how many bytes s has as UTF-8. */
export function byteLength(s: string): number {
  let n = s.length;
  for (let i = 0; i < s.length; i++) {
    const unit = s.charCodeAt(i);
    if (unit >= 0xd800 && unit < 0xdc00 && isLowSurrogate(s.charCodeAt(i + 1))) {
      n += 2; // four bytes, of which the two units are counted
      i++;
    } else if (unit >= 0x800) {
      n += 2;
    } else if (unit >= 0x80) {
      n += 1;
    }
  }
  return n;
}

function isLowSurrogate(unit: number): boolean {
  return unit >= 0xdc00 && unit < 0xe000;
}

/** Reports whether s is Unicode: no half of a surrogate pair stands alone. */
export function isWellFormed(s: string): boolean {
  return !/\p{Surrogate}/u.test(s);
}

/**
 * Returns a negative number if a comes before b in the order of their UTF-8 bytes, a positive one if after it, and 0 if they
 * are equal. The operator < orders by UTF-16, where U+1F44D comes before U+FF01.
 */
export function compareText(a: string, b: string): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) {
      return rank(x) - rank(y);
    }
  }
  return a.length - b.length;
}

/** Returns a number by which a unit of UTF-16 stands at its code point's place: surrogates behind all others. */
function rank(unit: number): number {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
}

/** Reports whether a and b are the same bytes. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
