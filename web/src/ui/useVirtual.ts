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
  const [list] = useState(() => new Virtualizer(whole));
  // What is read stays in its place also when a row above it changes that was in sight before, as the oldest one that was loaded does
  // when older ones come: its day began above it.
  list.shouldAdjustScrollPositionOnItemSizeChange = (row, _, { scrollOffset }) => row.start < (scrollOffset ?? 0);
  list.setOptions(whole);
  useLayoutEffect(() => list._didMount(), [list]);
  useLayoutEffect(() => list._willUpdate());
  return list;
}
