/**
 * Returns the seed of a random test, and prints it: PIM_FIRST_SEED plays the same one again. It is a safe integer below 2^48, as
 * .ci/run makes them of a commit's hash.
 */
export function firstSeed(): number {
  const said = process.env["PIM_FIRST_SEED"];
  const seed = said ? Number(said) : Math.floor(Math.random() * 2 ** 48);
  if (!Number.isSafeInteger(seed)) {
    throw new Error(`PIM_FIRST_SEED=${said} is not a seed`);
  }
  console.log(`PIM_FIRST_SEED=${seed}`);
  return seed;
}

/** Numbers that follow from a seed: SplitMix64. */
export class Random {
  #state: bigint;

  constructor(seed: number) {
    this.#state = BigInt(seed);
  }

  /** Returns 32 bits. */
  bits(): number {
    this.#state = (this.#state + 0x9e3779b97f4a7c15n) & mask;
    let z = this.#state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask;
    return Number((z ^ (z >> 31n)) >> 32n);
  }

  /** Returns an integer from 0 to n - 1. */
  below(n: number): number {
    return Math.floor((this.bits() / 2 ** 32) * n);
  }

  /** Returns one of all, which are some. */
  pick<T>(all: readonly T[]): T {
    const one = all[this.below(all.length)];
    if (one === undefined) {
      throw new Error("nothing to pick from");
    }
    return one;
  }

  /** Returns n bytes. */
  bytes(n: number): Uint8Array {
    return Uint8Array.from({ length: n }, () => this.below(256));
  }
}

const mask = (1n << 64n) - 1n;
