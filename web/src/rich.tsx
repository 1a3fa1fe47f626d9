import { type Content, rangeOf } from "@pim-im/client";
import type { ComponentChildren } from "preact";

/** An address that is made a link: http and https, nothing else. What ends a sentence does not belong to it. */
const address = /\bhttps?:\/\/[^\s<>"'`\u3000-\u303f\uff00-\uffef]+/giu;

/** Returns the address without what ends the sentence around it: stops, and brackets that it does not open. */
export function trimAddress(text: string): string {
  let s = text;
  for (;;) {
    const last = s.at(-1) ?? "";
    const open = { ")": "(", "]": "[", "}": "{" }[last];
    const lone = open !== undefined && s.split(last).length > s.split(open).length;
    if (!lone && !".,;:!?*_~".includes(last || "x")) {
      return s;
    }
    s = s.slice(0, -1);
  }
}

/** Returns where text is to lead; undefined if it is no address that a link may have. */
export function safeAddress(text: string): string | undefined {
  try {
    const url = new URL(text);
    return (url.protocol === "http:" || url.protocol === "https:") && url.hostname !== "" ? url.href : undefined;
  } catch {
    return undefined;
  }
}

function linked(text: string): ComponentChildren[] {
  const out: ComponentChildren[] = [];
  let at = 0;
  for (const match of text.matchAll(address)) {
    const shown = trimAddress(match[0]);
    const href = safeAddress(shown);
    if (href === undefined) {
      continue;
    }
    out.push(text.slice(at, match.index));
    out.push(
      <a href={href} target="_blank" rel="noopener noreferrer nofollow">
        {shown}
      </a>,
    );
    at = match.index + shown.length;
  }
  out.push(text.slice(at));
  return out;
}

/** Shows a text with its links and mentions. Nothing of it is taken for markup. */
export function Rich({ content, me }: { content: Content; me: string }) {
  const { text, mentions = [] } = content;
  const out: ComponentChildren[] = [];
  let at = 0;
  for (const m of mentions) {
    const [start, end] = rangeOf(text, m);
    out.push(...linked(text.slice(at, start)));
    out.push(<span class={m.user === me || m.user === "" ? "mention me" : "mention"}>{text.slice(start, end)}</span>);
    at = end;
  }
  out.push(...linked(text.slice(at)));
  return <>{out}</>;
}

/** Reports whether a text is a few emoji and nothing else, which are shown large. */
export function isEmoji(text: string): boolean {
  return (
    text.length <= 24 &&
    /^(?:\p{RI}\p{RI}|\p{Emoji}\uFE0F?\u20E3|\p{Extended_Pictographic}(?:\uFE0F|\p{EMod})?(?:\u200D\p{Extended_Pictographic}(?:\uFE0F|\p{EMod})?)*){1,3}$/u.test(
      text,
    )
  );
}
