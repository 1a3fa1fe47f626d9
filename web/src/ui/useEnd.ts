import type { RefObject } from "preact";
import { useRef, useState } from "preact/hooks";

/** The end of a list that is scrolled. */
export interface End {
  /** The end is in sight, or will be: the person stays there whatever comes. */
  readonly atEnd: boolean;
  /** The person wants to be at the end: what shows the list goes there. */
  want(): void;
  /** Goes to the end if the person is there. It is to be called after each change of what the list shows. */
  stay(): void;
  /** Is to be called for each scroll event. */
  scrolled(): void;
  /** Is to be called when the person has had the list scroll to a row: the end may be elsewhere. */
  went(): void;
  /** Is to be called when the list has scrolled of itself, as when a row turns out to be higher than was thought. */
  adjusted(): void;
}

/**
 * Keeps a list at its end until the person scrolls up, however little. A distance from the end does not say where the person wants to
 * be: while many rows come that are higher than was thought, the list is far from its end for a moment. near is how far from the
 * end, in pixels, the person still sees it: whoever comes so close by scrolling down wants to be there. jumped is called when the person
 * has scrolled so far at once that nothing of what was in sight still is, and not for what the program scrolls.
 */
export function useEnd(scroller: RefObject<HTMLElement | null>, near: number, jumped: () => void): End {
  const [atEnd, setAtEnd] = useState(true);
  const shown = useRef(true); // what atEnd will be
  const wanted = useRef(true);
  const last = useRef(0);
  const show = (on: boolean): void => {
    shown.current = on;
    setAtEnd(on);
  };
  /** Finds out where the person wants to be. What has changed may be drawn before there is an event for it. */
  const look = (s: HTMLElement): void => {
    const moved = s.scrollTop - last.current;
    const left = s.scrollHeight - s.clientHeight - s.scrollTop;
    last.current = s.scrollTop;
    if (Math.abs(moved) >= s.clientHeight) {
      jumped();
    }
    if (left <= 1 || (left <= near && moved > 0)) {
      wanted.current = true;
    } else if (moved < 0) {
      wanted.current = false;
    }
    show(wanted.current || left <= near);
  };
  const stay = (): void => {
    const s = scroller.current;
    if (s && shown.current) {
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
      wanted.current = true;
      show(true);
    },
    scrolled() {
      if (scroller.current) {
        look(scroller.current);
      }
    },
    went() {
      wanted.current = false;
      if (scroller.current) {
        look(scroller.current);
      }
    },
    adjusted() {
      last.current = scroller.current?.scrollTop ?? 0;
    },
  };
}
