import { useEffect, useRef, useState } from "preact/hooks";

/** Two jumps within this time, in milliseconds, are taken for dragging: a single one leads to what is to be read. */
const soon = 1000;
/** The scroll bar rests when the rows in sight have been the same for this time, in milliseconds. */
const rest = 120;

/**
 * Reports whether a person drags the scroll bar so fast that no row stays in sight from one drawing to the next: nobody can read these
 * rows, and they need not be drawn. first and last are the rows in sight. When they rest, the component is drawn again.
 */
export function useDragged(first: number, last: number): boolean {
  const [, again] = useState(0);
  const state = useRef({ first, last, jumped: -Infinity, dragged: false });
  const s = state.current;
  if (first > s.last || last < s.first) {
    const now = performance.now();
    s.dragged = now - s.jumped < soon;
    s.jumped = now;
  }
  s.first = first;
  s.last = last;
  // The time begins when the rows are painted, so that a slow device does not take a slow frame for a rest.
  useEffect(() => {
    if (!s.dragged) {
      return undefined;
    }
    const timer = setTimeout(() => {
      s.dragged = false;
      again((n) => n + 1);
    }, rest);
    return () => clearTimeout(timer);
  }, [first, last]);
  return s.dragged;
}
