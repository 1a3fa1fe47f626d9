// What a page shows of a conversation while it changes, and whether that was ever in a wrong order.

/** Has the page note which messages it shows, from above to below, after each change of what it shows. */
export function watchOrder(page) {
  return page.evaluate(() => {
    const space = document.querySelector(".space");
    const height = (row) => Number(/translateY\((.+)px\)/.exec(row.style.transform)?.[1]);
    const onItsWay = (row) => /^(Queued|Sending|Will be sent again)$/.test(row.querySelector(".state span")?.textContent ?? "");
    window.noted = [];
    window.note = () => {
      const rows = [...space.querySelectorAll(".row:has(.said)")].map((row) => ({ row, at: height(row) }));
      window.noted.push(
        rows
          .sort((a, b) => a.at - b.at)
          .filter(({ row }) => !onItsWay(row)) // it stands at the end, and finds its place when it is sent
          .map(({ row }) => row.querySelector(".said").textContent),
      );
    };
    new MutationObserver(window.note).observe(space, { subtree: true, childList: true, attributeFilter: ["style"] });
    window.note();
  });
}

/** Returns what the page has noted since it was asked last. */
export function noted(page) {
  return page.evaluate(() => {
    const notes = window.noted.splice(0);
    window.note(); // what comes later is compared with what is shown now
    return notes;
  });
}

/**
 * Returns what is wrong with what a page has noted, order being that of the conversation; undefined if nothing is. Of each pair of
 * messages that it showed at once, the one that is the first in order must have been above the other; and once there were
 * messages, it must have shown some.
 */
export function flashed(notes, order) {
  const place = new Map(order.map((text, i) => [text, i]));
  for (const [n, note] of notes.entries()) {
    if (note.length === 0 && n > 0 && notes[n - 1].length > 0) {
      return "nothing was shown";
    }
    for (let i = 1; i < note.length; i++) {
      if (!(place.get(note[i - 1]) < place.get(note[i]))) {
        return `"${note[i - 1]}" stood above "${note[i]}"`;
      }
    }
  }
  return undefined;
}

/** Scrolls through all of the room that is open, and returns the texts of its messages in the order of their rows. */
export async function throughAll(page) {
  const texts = await page.evaluate(async () => {
    const scroller = document.querySelector(".scroller");
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const at = new Map();
    scroller.scrollTop = 0;
    for (let before = -1; before !== scroller.scrollTop || scroller.scrollTop === 0;) {
      await frame();
      do {
        await frame();
      } while (document.querySelector(".row .blank")); // while the way here is taken for dragging
      for (const row of document.querySelectorAll(".row:has(.said)")) {
        at.set(Number(row.getAttribute("aria-posinset")), row.querySelector(".said").textContent);
      }
      before = scroller.scrollTop;
      scroller.scrollTop += scroller.clientHeight / 2;
    }
    return [...at].sort(([a], [b]) => a - b);
  });
  return texts.map(([, text]) => text);
}
