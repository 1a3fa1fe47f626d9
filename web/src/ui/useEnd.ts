import type { RefObject } from "preact";
import { useRef, useState } from "preact/hooks";

/** The end of a list that is scrolled. */
export interface End {
  /** The person is at the end, and stays there whatever comes. */
  readonly atEnd: boolean;
  /** The person wants to be at the end: what shows the list goes there. */
  want(): void;
  /** Goes to the end if the person is there. It is to be called after each change of what the list shows. */
  stay(): void;
  /** Is to be called for each scroll event. */
  scrolled(): void;
  /** Is to be called when the list has scrolled of itself, as when a row turns out to be higher than was thought. */
  adjusted(): void;
}

/**
 * Keeps a list at its end until the person scrolls up. A distance from the end does not say where the person wants to be: while many
 * rows come that are higher than was thought, the list is far from its end for a moment. near is how far from the end, in pixels,
 * the person is still at the end.
 */
export function useEnd(scroller: RefObject<HTMLElement | null>, near: number): End {
  const [atEnd, setAtEnd] = useState(true);
  const wanted = useRef(true);
  const last = useRef(0);
  const set = (on: boolean): void => {
    wanted.current = on;
    setAtEnd(on);
  };
  /** Finds out whether the person has scrolled. What has changed may be drawn before there is an event for it. */
  const look = (s: HTMLElement): void => {
    const up = s.scrollTop < last.current;
    last.current = s.scrollTop;
    if (s.scrollHeight - s.clientHeight - s.scrollTop <= near) {
      set(true);
    } else if (up) {
      set(false);
    }
  };
  const stay = (): void => {
    const s = scroller.current;
    if (s && wanted.current) {
      look(s);
    }
    if (s && wanted.current) {
      s.scrollTop = s.scrollHeight;
      last.current = s.scrollTop;
    }
  };
  return {
    atEnd,
    stay,
    want() {
      last.current = 0;
      set(true);
    },
    scrolled() {
      if (scroller.current) {
        look(scroller.current);
      }
    },
    adjusted() {
      last.current = scroller.current?.scrollTop ?? 0;
    },
  };
}
