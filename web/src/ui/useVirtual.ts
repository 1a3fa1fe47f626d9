import {
  elementScroll,
  observeElementOffset,
  observeElementRect,
  Virtualizer,
  type VirtualizerOptions,
} from "@tanstack/virtual-core";
import { useLayoutEffect, useState } from "preact/hooks";

type Scrolled = HTMLElement;
type Row = HTMLElement;
type Options = Omit<
  VirtualizerOptions<Scrolled, Row>,
  "observeElementRect" | "observeElementOffset" | "scrollToFn" | "onChange"
>;

/**
 * Has the list take the heights of rows together, the lowest row first. It computes the places of all rows below one anew before it
 * looks at the next one; of 100,000 that takes milliseconds for each of the rows that come into sight. A row's place does not depend on
 * those below it, so in this order the places are computed once, when the list is drawn. The function that is returned takes the
 * heights that wait.
 */
function takeTogether(list: Virtualizer<Scrolled, Row>): () => void {
  const waiting = new Map<number, number>();
  const take = list.resizeItem;
  const flush = (): void => {
    const all = [...waiting].sort(([a], [b]) => b - a);
    waiting.clear();
    const { anchorTo, count, overscan } = list.options;
    if ((list.range?.endIndex ?? count) + overscan < count) {
      // Far from its end the list need not ask for each row whether it is there. That is computed from the places, too.
      list.options.anchorTo = "start";
    }
    all.forEach(([index, size]) => take(index, size));
    list.options.anchorTo = anchorTo;
  };
  list.resizeItem = (index, size) => {
    if (waiting.size === 0) {
      queueMicrotask(flush); // before it is painted
    }
    waiting.set(index, size);
  };
  return flush;
}

/**
 * Binds the virtual list to a component: it renders again when other rows come into sight. The list calls adjusted when it has
 * scrolled of itself.
 */
export function useVirtual(options: Options, adjusted: () => void): Virtualizer<Scrolled, Row> {
  const [, again] = useState(0);
  const whole: VirtualizerOptions<Scrolled, Row> = {
    ...options,
    observeElementRect,
    observeElementOffset,
    scrollToFn: (offset, how, list) => {
      elementScroll(offset, how, list);
      adjusted();
    },
    onChange: () => again((n) => n + 1),
  };
  const [{ list, flush }] = useState(() => {
    const made = new Virtualizer(whole);
    return { list: made, flush: takeTogether(made) };
  });
  // What is read stays in its place also when a row above it changes that was in sight before, as the oldest one that was loaded does
  // when older ones come: its day began above it.
  list.shouldAdjustScrollPositionOnItemSizeChange = (row, _, { scrollOffset }) => row.start < (scrollOffset ?? 0);
  list.setOptions(whole);
  useLayoutEffect(() => list._didMount(), [list]);
  useLayoutEffect(flush);
  useLayoutEffect(() => list._willUpdate());
  return list;
}
