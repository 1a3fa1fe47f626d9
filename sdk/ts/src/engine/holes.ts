import { type Seq } from "../pim/index.js";
import { type Hole } from "./types.js";

/**
 * What is missing below a position, ascending and without overlaps. Holes are never changed, since the
 * store may keep them: these functions return new ones.
 */
export type Holes = readonly Hole[];

/** Returns those of a store's holes that make sense below known. */
export function soundHoles(rows: Holes, known: Seq): Holes {
  const sound: Hole[] = [];
  let end: Seq = 0;
  for (const h of rows) {
    if (h.from > end && h.from <= h.to && h.to < known) {
      sound.push(h);
      end = h.to;
    }
  }
  return sound;
}

/** Returns holes less the seqs from..to. */
export function holesWithout(holes: Holes, from: Seq, to: Seq): Holes {
  return holes.flatMap((h) => {
    if (to < h.from || from > h.to) {
      return [h];
    }
    const rest: Hole[] = [];
    if (h.from < from) {
      rest.push({ from: h.from, to: from - 1, lazy: h.lazy });
    }
    if (to < h.to) {
      rest.push({ from: to + 1, to: h.to, lazy: h.lazy });
    }
    return rest;
  });
}

/**
 * Returns holes changed so that the seq at is filled by itself: if at lies in a lazy hole, it gets a
 * hole of its own.
 */
export function openHole(holes: Holes, at: Seq): Holes {
  const around = holes.find((h) => h.from <= at && at <= h.to);
  if (around === undefined || !around.lazy) {
    return holes;
  }
  const rest = holesWithout(holes, at, at);
  const below = rest.filter((h) => h.from < at);
  return [...below, { from: at, to: at, lazy: false }, ...rest.slice(below.length)];
}

/** Returns the same holes, all of them lazy. */
export function lazyHoles(holes: Holes): Holes {
  return holes.map((h) => ({ ...h, lazy: true }));
}

/** Reports whether one of the seqs from..to lies in a hole. */
export function holesMiss(holes: Holes, from: Seq, to: Seq): boolean {
  return holes.some((h) => h.from <= to && from <= h.to);
}

/** Returns the topmost hole that is filled by itself. */
export function eagerHole(holes: Holes): Hole | undefined {
  return holes.findLast((h) => !h.lazy);
}

/**
 * Returns the topmost hole below the seq before, without the part of it that is not below. If before
 * is 0, it returns the topmost hole of all.
 */
export function holeBelow(holes: Holes, before: Seq): Hole | undefined {
  const h = holes.findLast((h) => before === 0 || h.from < before);
  return h === undefined || before === 0 ? h : { ...h, to: Math.min(h.to, before - 1) };
}

/**
 * Returns the last seq of the topmost lazy hole that lies below the seq before; 0 if there is none.
 */
export function skippedBelow(holes: Holes, before: Seq): Seq {
  return holes.findLast((h) => h.lazy && h.to < before)?.to ?? 0;
}

/**
 * Returns the seq up to which a device at the position known has what it is to have. A lazy hole does
 * not count: the device has passed over it on purpose, and the log keeps it.
 */
export function ackableBelow(holes: Holes, known: Seq): Seq {
  const first = holes.find((h) => !h.lazy);
  return first === undefined ? known : first.from - 1;
}

/** Reports whether a and b are the same. */
export function sameHoles(a: Holes, b: Holes): boolean {
  return (
    a.length === b.length &&
    a.every((h, i) => {
      const other = b[i];
      return other !== undefined && h.from === other.from && h.to === other.to && h.lazy === other.lazy;
    })
  );
}
