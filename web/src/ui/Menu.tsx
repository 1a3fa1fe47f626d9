import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Icon } from "./icons";

/** One line of a Menu. */
export interface Choice {
  readonly label: string;
  readonly act: () => void;
  readonly danger?: boolean;
}

/** A button that opens a list of things to do. Arrow keys move in it, Escape closes it. */
export function Menu({
  label,
  choices,
  icon = <Icon name="more" />,
  tabIndex = 0,
}: {
  label: string;
  choices: readonly Choice[];
  icon?: ComponentChildren;
  tabIndex?: number;
}) {
  const [open, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const id = useId();
  useEffect(() => {
    if (!open) {
      return undefined;
    }
    list.current?.querySelector("button")?.focus();
    const outside = (e: Event): void => {
      if (e.target instanceof Node && !list.current?.contains(e.target) && !button.current?.contains(e.target)) {
        setOpen(false);
      }
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [open]);
  const shut = (): void => {
    setOpen(false);
    button.current?.focus();
  };
  const onKey = (e: KeyboardEvent): void => {
    const all = [...(list.current?.querySelectorAll("button") ?? [])];
    const at = all.findIndex((b) => b === document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[e.key];
    if (to !== undefined) {
      e.preventDefault();
      all[(to + all.length) % all.length]?.focus();
    } else if (e.key === "Escape") {
      e.stopPropagation();
      shut();
    } else if (e.key === "Tab") {
      setOpen(false);
    }
  };
  return (
    <div class="menu">
      <button
        ref={button}
        type="button"
        class="plain"
        tabIndex={tabIndex}
        aria-label={label}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        onClick={() => setOpen(!open)}
      >
        {icon}
      </button>
      {open && (
        <div ref={list} id={id} role="menu" aria-label={label} class="sheet" onKeyDown={onKey}>
          {choices.map((c) => (
            <button
              type="button"
              role="menuitem"
              tabIndex={-1}
              class={c.danger ? "danger" : ""}
              onClick={() => {
                shut();
                c.act();
              }}
            >
              {c.label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
