/** What of a key decides whether it ends a composition, as of Chinese characters. */
export interface Key {
  readonly key: string;
  readonly isComposing: boolean;
  /** 229 while a composition is under way, also where isComposing is false already, as in Safari with the Enter that ends it. */
  readonly keyCode: number;
  readonly shiftKey: boolean;
  readonly ctrlKey: boolean;
  readonly metaKey: boolean;
  readonly altKey: boolean;
}

/** Reports whether the key belongs to a composition, and is not the page's. */
export function composes(k: Key): boolean {
  return k.isComposing || k.keyCode === 229;
}

/** Reports whether the key sends what was typed: Enter alone. */
export function sends(k: Key): boolean {
  return k.key === "Enter" && !k.shiftKey && !k.ctrlKey && !k.metaKey && !k.altKey && !composes(k);
}
