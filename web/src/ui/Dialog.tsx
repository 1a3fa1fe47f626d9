import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { t } from "../words";
import { Icon } from "./icons";

/**
 * Gives the focus to before, unless it is elsewhere already. If before is gone or hidden, the next heading has it: of the innermost of
 * owners, the elements around the dialog, that is there and has one in sight.
 */
function giveBack(before: Element | null, owners: readonly Element[]): void {
  if (document.activeElement !== document.body) {
    return;
  }
  const headings = owners.filter((e) => e.isConnected).flatMap((e) => [...e.querySelectorAll("h2")]);
  headings.forEach((e) => (e.tabIndex = -1));
  [before, ...headings].some((e) => {
    if (e instanceof HTMLElement && e.isConnected) {
      e.focus();
    }
    return document.activeElement === e;
  });
}

/**
 * A window over the page. The browser keeps the focus in it, and closes it with Escape. Then the focus is where it was before or, if
 * that is gone, at the heading of what the dialog belongs to.
 */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  // A field of the dialog takes the focus before the browser notes where it was.
  const [before] = useState(() => document.activeElement);
  useEffect(() => {
    const dialog = ref.current;
    const owners: Element[] = [];
    for (let e = dialog?.parentElement; e; e = e.parentElement) {
      owners.push(e);
    }
    dialog?.showModal();
    return () => {
      dialog?.close();
      queueMicrotask(() => giveBack(before, owners)); // what goes together with the dialog is gone then
    };
  }, []);
  return (
    <dialog ref={ref} aria-labelledby={id} onCancel={onClose} onClick={(e) => e.target === ref.current && onClose()}>
      <div class="sheet">
        <header>
          <h2 id={id}>{title}</h2>
          <button type="button" class="plain" aria-label={t.close} onClick={onClose}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}
