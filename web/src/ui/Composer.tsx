import { EntryKind, type UserID } from "@pim-im/client";
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Chat } from "../chat";
import { composes, sends } from "../compose";
import { everybody, typedName } from "../mention";
import { contentOf, type Room } from "../room";
import { useSignal } from "../signal";
import { t } from "../words";
import { Avatar } from "./Avatar";
import { Icon } from "./icons";

/** How many members are suggested. */
const suggestions = 6;

/** Where a message is written. What is typed is kept until it is sent. */
export function Composer({ chat, room }: { chat: Chat; room: Room }) {
  useSignal(room.changed);
  const [text, setText] = useState(() => chat.draft(room.id));
  const [caret, setCaret] = useState(0);
  const [chosen, setChosen] = useState(0);
  const [closed, setClosed] = useState(false);
  const area = useRef<HTMLTextAreaElement>(null);
  const id = useId();
  const { doing } = room;

  useLayoutEffect(() => {
    const a = area.current;
    if (a) {
      a.style.height = "0";
      a.style.height = `${a.scrollHeight}px`; // as high as its text; the style bounds it
    }
  }, [text]);
  useLayoutEffect(() => {
    if (doing?.type === "edit") {
      setText(doing.text ?? contentOf(doing.message).text);
    }
    if (doing || matchMedia("(hover: hover)").matches) {
      area.current?.focus();
    }
  }, [doing]);

  const stop = (): void => {
    if (doing?.type === "edit") {
      setText(chat.draft(room.id));
    }
    room.begin(undefined);
  };
  const send = async (): Promise<void> => {
    const said = text.trim();
    if (!said) {
      return;
    }
    const editing = doing?.type === "edit";
    setText(editing ? chat.draft(room.id) : "");
    const sent = await room.say(said);
    const again = room.doing?.type === "edit" && room.doing.text === said; // the field shows it with that
    if (!sent && !again) {
      setText((now) => (now ? `${said}\n${now}` : said)); // it was refused: nothing is lost
    }
  };

  const typed = room.group && !closed ? typedName(text, caret) : undefined;
  const matching =
    typed === undefined
      ? []
      : [...room.members.filter((u) => u !== room.me), everybody].filter((u) =>
          u.toLowerCase().startsWith(typed.toLowerCase()),
        );
  // Of a name that is all there, nothing is left to be offered: Enter sends.
  const offered: UserID[] = matching.length === 1 && matching[0] === typed ? [] : matching.slice(0, suggestions);
  const take = (name: UserID): void => {
    const from = caret - (typed?.length ?? 0);
    const next = `${text.slice(0, from)}${name} ${text.slice(caret)}`;
    setText(next);
    room.keepDraft(next);
    setClosed(true);
    requestAnimationFrame(() => area.current?.setSelectionRange(from + name.length + 1, from + name.length + 1));
    area.current?.focus();
  };

  const onKey = (e: KeyboardEvent): void => {
    if (composes(e)) {
      return; // the key is the input method's
    }
    if (offered.length > 0) {
      const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
      const name = offered[chosen % offered.length];
      if (step !== undefined) {
        e.preventDefault();
        setChosen((chosen + step + offered.length) % offered.length);
        return;
      }
      if ((e.key === "Enter" || e.key === "Tab") && name !== undefined) {
        e.preventDefault();
        take(name);
        return;
      }
      if (e.key === "Escape") {
        e.preventDefault();
        setClosed(true);
        return;
      }
    }
    if (sends(e)) {
      e.preventDefault();
      void send();
    } else if (e.key === "Escape" && doing) {
      e.preventDefault();
      stop();
    } else if (e.key === "ArrowUp" && text === "" && !doing) {
      const last = room.items.findLast((m) => m.entry.kind === EntryKind.message && room.may("edit", m));
      if (last) {
        e.preventDefault();
        room.begin({ type: "edit", message: last });
      }
    }
  };

  return (
    <form
      class="composer"
      onSubmit={(e) => {
        e.preventDefault();
        void send();
      }}
    >
      {doing && (
        <div class="doing">
          <span>
            <b dir="auto">{doing.type === "edit" ? t.editing : t.replyingTo(doing.message.entry.sender || t.you)}</b>
            <span dir="auto">{contentOf(doing.message).text}</span>
          </span>
          <button type="button" class="plain" aria-label={doing.type === "edit" ? t.stopEdit : t.stopReply} onClick={stop}>
            <Icon name="close" />
          </button>
        </div>
      )}
      {offered.length > 0 && (
        <ul class="offered sheet" role="listbox" id={id} aria-label={t.suggestions}>
          {offered.map((name, i) => (
            <li
              key={name}
              role="option"
              id={`${id}-${i}`}
              aria-selected={i === chosen % offered.length}
              onPointerDown={(e) => {
                e.preventDefault();
                take(name);
              }}
            >
              <Avatar name={name} />
              <span dir="auto">{name}</span>
              {name === everybody && <span class="quiet">{t.everybody}</span>}
            </li>
          ))}
        </ul>
      )}
      <div class="field">
        <textarea
          ref={area}
          rows={1}
          dir="auto"
          value={text}
          placeholder={t.write}
          aria-label={t.write}
          aria-haspopup={room.group ? "listbox" : undefined}
          aria-controls={offered.length > 0 ? id : undefined}
          aria-autocomplete={room.group ? "list" : undefined}
          aria-activedescendant={offered.length > 0 ? `${id}-${chosen % offered.length}` : undefined}
          enterkeyhint="send"
          onInput={(e) => {
            const next = e.currentTarget.value;
            setText(next);
            setCaret(e.currentTarget.selectionStart);
            setChosen(0);
            setClosed(false);
            room.keepDraft(next);
            if (next) {
              room.writes();
            }
          }}
          onSelect={(e) => setCaret(e.currentTarget.selectionStart)}
          onKeyDown={onKey}
        />
        <button class="send" aria-label={doing?.type === "edit" ? t.save : t.send} disabled={text.trim() === ""}>
          <Icon name={doing?.type === "edit" ? "check" : "send"} />
        </button>
      </div>
    </form>
  );
}
