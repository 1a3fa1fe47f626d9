// SHA-256, FIPS 180-4. The engine names groups by it and is synchronous; WebCrypto's is not, and is missing on pages that
// were not loaded by HTTPS. The inputs are below a hundred bytes.

/** Returns the first 32 bits of the fraction of x. */
function fraction(x: number): number {
  return ((x - Math.floor(x)) * 2 ** 32) | 0;
}

/** Returns the first 64 primes. */
function primes(): number[] {
  const found: number[] = [];
  for (let n = 2; found.length < 64; n++) {
    if (found.every((p) => n % p !== 0)) {
      found.push(n);
    }
  }
  return found;
}

function rotate(x: number, by: number): number {
  return (x >>> by) | (x << (32 - by));
}

/** Returns the SHA-256 of data, 32 bytes. */
export function sha256(data: Uint8Array): Uint8Array {
  const constants = primes();
  const k = Int32Array.from(constants, (p) => fraction(Math.cbrt(p)));
  const state = Int32Array.from(constants.slice(0, 8), (p) => fraction(Math.sqrt(p)));
  const padded = new DataView(new ArrayBuffer(((data.length + 8) >> 6) * 64 + 64));
  new Uint8Array(padded.buffer).set(data);
  padded.setUint8(data.length, 0x80);
  padded.setBigUint64(padded.byteLength - 8, BigInt(data.length) * 8n);
  const w = new Int32Array(64);
  const at = (words: Int32Array, i: number): number => words[i] ?? 0; // i is always within words
  for (let block = 0; block < padded.byteLength; block += 64) {
    for (let i = 0; i < 64; i++) {
      if (i < 16) {
        w[i] = padded.getInt32(block + 4 * i);
        continue;
      }
      const x = at(w, i - 15);
      const y = at(w, i - 2);
      const s0 = rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3);
      const s1 = rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10);
      w[i] = at(w, i - 16) + s0 + at(w, i - 7) + s1;
    }
    let [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = state;
    for (let i = 0; i < 64; i++) {
      const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + at(k, i) + at(w, i)) | 0;
      const s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((x, i) => (state[i] = at(state, i) + x));
  }
  const sum = new DataView(new ArrayBuffer(32));
  state.forEach((x, i) => sum.setInt32(4 * i, x));
  return new Uint8Array(sum.buffer);
}

/** Returns the HMAC of data by SHA-256, RFC 2104, 32 bytes. key has at most 64 bytes. */
export function hmacSHA256(key: Uint8Array, data: Uint8Array): Uint8Array {
  const padded = new Uint8Array(64);
  padded.set(key);
  const keyed = (pad: number, of: Uint8Array): Uint8Array => sha256(Uint8Array.of(...padded.map((byte) => byte ^ pad), ...of));
  return keyed(0x5c, keyed(0x36, data));
}
