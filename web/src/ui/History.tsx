import { EntryKind, type Message, timeOf } from "@pim-im/client";
import { defaultRangeExtractor } from "@tanstack/virtual-core";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Chat } from "../chat";
import { clockOf, dayLine, dayOf } from "../dates";
import { contentOf, keyOf, type Room } from "../room";
import { eventText } from "../said";
import { useSignal } from "../signal";
import { t } from "../words";
import { Icon } from "./icons";
import { Readers } from "./Members";
import { Row, stateOf } from "./Message";
import { useDragged } from "./useDragged";
import { useEnd } from "./useEnd";
import { useVirtual } from "./useVirtual";

/** What a person writes within this time, in milliseconds, goes on from the message before. */
const inOneGo = 5 * 60_000;
/** How near the oldest row, in rows, older ones are loaded. */
const nearBeginning = 20;
/** How near the end, in pixels, the person reads at the end. */
const nearEnd = 80;

/** Returns how high a row may be, in pixels, before it has been in sight. */
const estimateSize = (): number => 64;

/** Returns when the message was written, as far as this page knows: one in the outbox has its local time or is written now. */
function writtenAt(m: Message): number {
  return m.pending() ? m.entry.local || Date.now() : timeOf(m.entry);
}

/** Returns what a screen reader says of the row. */
function spoken(room: Room, m: Message, time: number, state: string): string {
  const event = m.entry.kind === EntryKind.message ? undefined : eventText(m.entry, room.me);
  if (event !== undefined) {
    return event;
  }
  const sender = !m.entry.sender || m.entry.sender === room.me ? t.you : m.entry.sender;
  const text = m.recalled() ? t.recalled : m.erased() ? t.erased : contentOf(m).text || m.text();
  return t.message(sender, text, clockOf(time), state);
}

/** Returns what stands above the oldest row. */
function beginningOf(room: Room): string {
  if (!room.more) {
    return room.front > 1 ? t.removedBefore : t.beginning;
  }
  return room.loading ? t.loadingOlder : room.failed ? t.olderFailed : "";
}

/** The messages of a room. Only those in sight are in the page; what is read stays where it is while others come above. */
export function History({ chat, room }: { chat: Chat; room: Room }) {
  useSignal(room.changed);
  const scroller = useRef<HTMLDivElement>(null);
  const [current, setCurrent] = useState<string>();
  const [focused, setFocused] = useState(false);
  const [readers, setReaders] = useState<number>();
  const { items, me } = room;
  const at = current === undefined ? -1 : items.findIndex((m) => keyOf(m, me) === current);
  // The list measures all rows anew when this function is another one.
  const getItemKey = useCallback(
    (i: number) => {
      const m = items[i];
      return m ? keyOf(m, me) : i;
    },
    [items, me],
  );
  const { dragged, jumped } = useDragged();
  const end = useEnd(scroller, nearEnd, jumped);
  const { atEnd } = end;
  const list = useVirtual(
    {
      count: items.length,
      getScrollElement: () => scroller.current,
      estimateSize,
      getItemKey,
      overscan: 8,
      paddingStart: 56,
      paddingEnd: 16,
      anchorTo: "end",
      scrollEndThreshold: nearEnd,
      useAnimationFrameWithResizeObserver: false,
      // The row that has the focus stays in the page.
      rangeExtractor: (range) => {
        const rows = defaultRangeExtractor(range);
        return at < 0 || rows.includes(at) ? rows : [...rows, at].sort((a, b) => a - b);
      },
    },
    end.adjusted,
  );
  const rows = list.getVirtualItems();

  const toEnd = (): void => {
    end.want();
    list.scrollToEnd();
  };
  // A room opens at its end, and goes there with what the person sends, not with what becomes of it later.
  useLayoutEffect(toEnd, [list, room, room.sent]);
  useLayoutEffect(end.stay);

  const first = rows[0]?.index ?? 0;
  useEffect(() => {
    if (room.more && !room.loading && !room.failed && first < nearBeginning) {
      void room.older();
    }
  }, [room, first, items.length, room.loading, room.failed]);
  const again = (): void => {
    if (room.failed && first < nearBeginning) {
      void room.older();
    }
  };

  // What came while the person reads further up.
  const [seen, setSeen] = useState(items.length);
  const newest = items.at(-1);
  const newestKey = newest && keyOf(newest, me);
  const known = useRef(newestKey);
  useEffect(() => {
    if (atEnd) {
      known.current = newestKey;
      setSeen(0);
    } else {
      const i = items.findIndex((m) => keyOf(m, me) === known.current);
      setSeen(i < 0 ? 0 : items.slice(i + 1).filter((m) => m.entry.sender !== me && m.entry.kind === EntryKind.message).length);
    }
  }, [atEnd, newestKey]);

  const go = (i: number): void => {
    const m = items[i];
    if (m) {
      const key = keyOf(m, me);
      setCurrent(key);
      if (i === items.length - 1) {
        toEnd();
      } else {
        list.scrollToIndex(i, { align: "auto" });
        end.went();
      }
      again(); // at the beginning nothing moves
      requestAnimationFrame(() => requestAnimationFrame(() => focusRow(i)));
    }
  };
  const focusRow = (i: number): void => {
    scroller.current?.querySelector<HTMLElement>(`[data-index="${i}"]`)?.focus({ preventScroll: true });
  };
  // It stays the same function, so that a row is drawn only when what it shows has changed.
  const jumpNow = useRef((_: number): void => undefined);
  jumpNow.current = (seq) => {
    const i = items.findIndex((m) => m.entry.seq === seq);
    if (i >= 0) {
      list.scrollToIndex(i, { align: "center" });
      end.went();
      go(i);
    }
  };
  const jump = useCallback((seq: number) => jumpNow.current(seq), []);
  const onKey = (e: KeyboardEvent): void => {
    const row = e.target instanceof HTMLElement ? e.target : undefined;
    if (row?.dataset["index"] === undefined) {
      return;
    }
    const i = Number(row.dataset["index"]);
    const m = items[i];
    const to = { ArrowUp: i - 1, ArrowDown: i + 1, Home: 0, End: items.length - 1, PageUp: i - 10, PageDown: i + 10 }[e.key];
    if (to !== undefined) {
      e.preventDefault();
      go(Math.min(Math.max(to, 0), items.length - 1));
    } else if (m && !e.ctrlKey && !e.metaKey && !e.altKey) {
      if (e.key === "r" && room.may("reply", m)) {
        e.preventDefault();
        room.begin({ type: "reply", message: m });
      } else if (e.key === "e" && room.may("edit", m)) {
        e.preventDefault();
        room.begin({ type: "edit", message: m });
      } else if (e.key === "Delete" && room.may("recall", m)) {
        room.recall(m);
      }
    }
  };

  const title = chat.title(room.id);
  const focusable = at >= 0 ? at : items.length - 1;
  return (
    <div class="history">
      <div
        ref={scroller}
        class="scroller"
        role="list"
        aria-label={t.messagesWith(title)}
        tabIndex={-1}
        onKeyDown={onKey}
        onScroll={() => {
          end.scrolled();
          again();
        }}
        onWheel={again}
      >
        <div class="space" role="presentation" style={{ height: `${list.getTotalSize()}px` }}>
          <p class="beginning" role="presentation">
            {beginningOf(room)}
          </p>
          {rows.map(({ index, key, start, size }) => {
            const m = items[index];
            if (!m) {
              return null;
            }
            const before = items[index - 1];
            const after = items[index + 1];
            const time = writtenAt(m);
            const goesOn = (a: Message, b: Message): boolean =>
              a.entry.kind === EntryKind.message &&
              b.entry.kind === EntryKind.message &&
              (a.entry.sender || me) === (b.entry.sender || me) &&
              dayOf(writtenAt(a)) === dayOf(writtenAt(b)) &&
              writtenAt(b) - writtenAt(a) < inOneGo;
            const own = !m.entry.sender || m.entry.sender === me;
            const state = own && m.entry.kind === EntryKind.message && !m.recalled() ? stateOf(room, m) : "";
            return (
              <div
                key={key}
                ref={list.measureElement}
                data-index={index}
                class="row"
                role="listitem"
                aria-setsize={items.length}
                aria-posinset={index + 1}
                tabIndex={index === focusable ? 0 : -1}
                style={{ transform: `translateY(${start}px)` }}
                aria-label={spoken(room, m, time, state)}
                onFocus={() => {
                  setCurrent(keyOf(m, me));
                  setFocused(true);
                }}
                onBlur={() => setFocused(false)}
              >
                {dragged && index !== at ? (
                  // It is filled as soon as the scroll bar rests. Until then it is as high as the list takes it to be.
                  <div class="blank" style={{ height: `${size}px` }} />
                ) : (
                  <Row
                    room={room}
                    owner={room.owner}
                    m={m}
                    time={time}
                    day={!before || dayOf(writtenAt(before)) !== dayOf(time) ? dayLine(time) : ""}
                    goesOn={before !== undefined && goesOn(before, m)}
                    ends={after === undefined || !goesOn(m, after)}
                    state={state}
                    current={focused && index === at}
                    onJump={jump}
                    onReaders={setReaders}
                  />
                )}
              </div>
            );
          })}
        </div>
      </div>
      {items.length === 0 && !room.loading && <p class="nothing">{t.noMessages}</p>}
      {!atEnd && items.length > 0 && (
        <button type="button" class="jump" aria-label={seen > 0 ? t.newBelow(seen) : t.jumpDown} onClick={toEnd}>
          {seen > 0 && <span>{t.newBelow(seen)}</span>}
          <Icon name="down" />
        </button>
      )}
      {readers !== undefined && <Readers room={room} seq={readers} onClose={() => setReaders(undefined)} />}
    </div>
  );
}
