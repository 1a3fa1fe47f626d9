const graphemes = new Intl.Segmenter(); // to make one takes longer than to draw a line of the list

/** The circle that stands for a user or group; its colour follows from the name. */
export function Avatar({ name, group = false }: { name: string; group?: boolean }) {
  let sum = 0;
  for (const c of name) {
    sum = (sum * 31 + (c.codePointAt(0) ?? 0)) >>> 0;
  }
  const first = graphemes.segment(name).containing(0)?.segment ?? "?";
  return (
    <span class={`avatar hue${sum % 8}${group ? " group" : ""}`} aria-hidden="true">
      {first.toLocaleUpperCase()}
    </span>
  );
}
