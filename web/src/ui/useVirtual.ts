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

/** Binds the virtual list to a component: it renders again when other rows come into sight. */
export function useVirtual(options: Options): Virtualizer<Scrolled, Row> {
  const [, again] = useState(0);
  const whole: VirtualizerOptions<Scrolled, Row> = {
    ...options,
    observeElementRect,
    observeElementOffset,
    scrollToFn: elementScroll,
    onChange: () => again((n) => n + 1),
  };
  const [list] = useState(() => new Virtualizer(whole));
  list.setOptions(whole);
  useLayoutEffect(() => list._didMount(), [list]);
  useLayoutEffect(() => list._willUpdate());
  return list;
}
