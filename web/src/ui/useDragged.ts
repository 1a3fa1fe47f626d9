import { useEffect, useState } from "preact/hooks";

/** Two jumps within this time, in milliseconds, are taken for dragging: a single one leads to what is to be read. */
const soon = 1000;
/** The scroll bar rests when nobody has jumped for this time, in milliseconds. */
const rest = 120;

/**
 * Reports whether a person drags the scroll bar so fast that no row stays in sight: nobody can read these rows, and they need not be
 * drawn. jumped is to be called for each such jump of the person. Only another jump puts off the end, whatever else is drawn meanwhile:
 * then the component is drawn again.
 */
export function useDragged(): { readonly dragged: boolean; jumped(): void } {
  const [last, setLast] = useState({ time: -Infinity, dragged: false });
  // The time begins when the rows are painted, so that a slow device does not take a slow frame for a rest.
  useEffect(() => {
    if (!last.dragged) {
      return undefined;
    }
    const timer = setTimeout(() => setLast({ ...last, dragged: false }), rest);
    return () => clearTimeout(timer);
  }, [last]);
  return {
    dragged: last.dragged,
    jumped() {
      const time = performance.now();
      setLast((before) => ({ time, dragged: time - before.time < soon }));
    },
  };
}
