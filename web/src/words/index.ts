import { en, type Words } from "./en";
import { zh } from "./zh";

export type { Words };

/** The tables by language. */
export const languages: Record<string, Words> = { en, zh };

/** Returns the first language that the person prefers and that has a table; English if there is none. */
export function preferred(wanted: readonly string[]): string {
  return wanted.map((tag) => tag.toLowerCase().split("-")[0] ?? "").find((tag) => tag in languages) ?? "en";
}

/** The language of the page. */
export const language = preferred(typeof navigator === "undefined" ? [] : navigator.languages);

/** The texts of the page. */
export const t: Words = languages[language] ?? en;
