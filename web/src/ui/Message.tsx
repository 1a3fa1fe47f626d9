import { type Content, EntryKind, type Message as Msg, type UserID } from "@pim-im/client";
import { memo } from "preact/compat";
import { reasonOf } from "../chat";
import { clockOf, exactly } from "../dates";
import { isEmoji, Rich } from "../rich";
import { contentOf, type Room } from "../room";
import { eventText } from "../said";
import { t } from "../words";
import { Avatar } from "./Avatar";
import { Icon } from "./icons";
import { Menu } from "./Menu";

/** The reactions that are offered. */
const offered = ["👍", "❤️", "😂", "🎉", "😮", "😢", "🙏", "👀"];

/** Returns how far an own message has come, in words; "" if nothing need be said. */
export function stateOf(room: Room, m: Msg): string {
  switch (m.state) {
    case "queued":
      return t.queued;
    case "sending":
      return t.sending;
    case "waiting":
      return t.waiting;
    case "failed":
      return t.failed(m.err ? reasonOf(m.err) : "");
    default:
      break;
  }
  const { seq } = m.entry;
  if (!room.group) {
    return room.got.read >= seq ? t.read : room.got.delivered >= seq ? t.delivered : t.stored;
  }
  const count = room.count(seq);
  return count && count.read > 0 ? t.readBy(count.read, count.members) : t.stored;
}

function StateIcon({ room, m }: { room: Room; m: Msg }) {
  if (m.pending()) {
    return <Icon name={m.state === "failed" ? "alert" : "clock"} />;
  }
  const { seq } = m.entry;
  const reached = room.group ? (room.count(seq)?.read ?? 0) > 0 : room.got.delivered >= seq;
  return <Icon name={reached ? "checks" : "check"} />;
}

/** What a row needs to be drawn; the message is the same object as long as its line has not changed. */
export interface RowProps {
  readonly room: Room;
  /** The owner of the group, who may do more with messages. */
  readonly owner: UserID;
  readonly m: Msg;
  readonly time: number;
  /** The day that the row begins; "" if it begins none. */
  readonly day: string;
  /** The row goes on with what the same person has just written. */
  readonly goesOn: boolean;
  /** It is the last of what the person wrote in one go. */
  readonly ends: boolean;
  /** How far it has come; "" for those of others. */
  readonly state: string;
  /** The focus is in the row. */
  readonly current: boolean;
  readonly onJump: (seq: number) => void;
  readonly onReaders: (seq: number) => void;
}

function Quote({ content, current, onJump }: { content: Content } & Pick<RowProps, "current" | "onJump">) {
  const { reply } = content;
  if (!reply) {
    return null;
  }
  return (
    <button type="button" class="quote" tabIndex={current ? 0 : -1} onClick={() => onJump(reply.seq)}>
      <b dir="auto">{reply.sender}</b>
      <span dir="auto">{reply.excerpt || "…"}</span>
    </button>
  );
}

function Said({ room, m }: { room: Room; m: Msg }) {
  if (m.recalled()) {
    return <p class="gone">{t.recalled}</p>;
  }
  if (m.erased()) {
    return <p class="gone">{t.erased}</p>;
  }
  const content = contentOf(m);
  const { forward } = content;
  if (!content.text && !forward) {
    return <p class="gone">{m.text() || t.unknownMessage}</p>;
  }
  return (
    <>
      {forward && (
        <p class="forward" dir="auto">
          <small>{t.forwarded(forward.sender)}</small>
          {content.text ? new TextDecoder().decode(forward.content.subarray(0, 400)) : m.text()}
        </p>
      )}
      {content.text && (
        <p class={isEmoji(content.text) ? "said emoji" : "said"} dir="auto">
          <Rich content={content} me={room.me} />
        </p>
      )}
    </>
  );
}

/** What can be done with a message: by mouse at its side, by keyboard from its row. */
function Actions({ room, m, current, onReaders }: Pick<RowProps, "room" | "m" | "current" | "onReaders">) {
  const may = (what: Parameters<Room["may"]>[0]): boolean => room.may(what, m);
  if (!may("reply")) {
    return null;
  }
  const tabIndex = current ? 0 : -1;
  const copy = (): void => void navigator.clipboard?.writeText(contentOf(m).text);
  const choices = [
    ...(may("edit") ? [{ label: t.edit, act: () => room.begin({ type: "edit", message: m }) }] : []),
    { label: t.copy, act: copy },
    ...(may("readers") ? [{ label: t.whoRead, act: () => onReaders(m.entry.seq) }] : []),
    ...(may("recall") ? [{ label: t.recall, act: () => room.recall(m), danger: true }] : []),
  ];
  return (
    <div class="actions" role="group" aria-label={t.actions}>
      <Menu
        label={t.react}
        tabIndex={tabIndex}
        icon={<Icon name="smile" />}
        choices={offered.map((emoji) => ({ label: emoji, act: () => room.react(m, emoji) }))}
      />
      <button
        type="button"
        class="plain"
        tabIndex={tabIndex}
        aria-label={t.reply}
        title={t.reply}
        onClick={() => room.begin({ type: "reply", message: m })}
      >
        <Icon name="reply" />
      </button>
      <Menu label={t.more} choices={choices} tabIndex={tabIndex} />
    </div>
  );
}

function Bubble(p: RowProps) {
  const { room, m, time, state } = p;
  const own = !m.entry.sender || m.entry.sender === room.me;
  const failed = m.state === "failed";
  return (
    <div class={`message${own ? " own" : ""}${p.goesOn ? " goes-on" : ""}${p.ends ? " ends" : ""}${failed ? " failed" : ""}`}>
      {!own && (p.goesOn ? <span class="avatar none" /> : <Avatar name={m.entry.sender} />)}
      <div class="body">
        {!own && !p.goesOn && room.group && (
          <span class="sender" dir="auto">
            {m.entry.sender}
          </span>
        )}
        <div class="bubble">
          {!m.recalled() && <Quote content={contentOf(m)} current={p.current} onJump={p.onJump} />}
          <Said room={room} m={m} />
        </div>
        {!m.recalled() && m.reactions().length > 0 && (
          <ul class="reactions">
            {m.reactions().map((r) => (
              <li key={r.text}>
                <button
                  type="button"
                  tabIndex={p.current ? 0 : -1}
                  aria-pressed={r.mine}
                  aria-label={t.reaction(r.text, r.users.length, r.users.join(", "))}
                  title={r.users.join(", ")}
                  onClick={() => room.react(m, r.text)}
                >
                  {r.text} {r.users.length}
                </button>
              </li>
            ))}
          </ul>
        )}
        <div class="under">
          {m.edited() && !m.recalled() && <span>{t.edited}</span>}
          {time > 0 && (
            <time dateTime={new Date(time).toISOString()} title={exactly(time)}>
              {clockOf(time)}
            </time>
          )}
          {own && !m.recalled() && (
            <span class="state">
              <StateIcon room={room} m={m} />
              <span>{state}</span>
            </span>
          )}
          {failed && (
            <>
              <button type="button" class="link" onClick={() => room.resend(m)}>
                {t.resend}
              </button>
              <button type="button" class="link" onClick={() => room.discard(m)}>
                {t.discard}
              </button>
            </>
          )}
        </div>
      </div>
      <Actions room={room} m={m} current={p.current} onReaders={p.onReaders} />
    </div>
  );
}

/** One line of the history, with the day that it begins. */
export const Row = memo(function Row(p: RowProps) {
  const { m, room } = p;
  const event = eventText(m.entry, room.me);
  return (
    <>
      {p.day && (
        <div class="day">
          <span>{p.day}</span>
        </div>
      )}
      {m.entry.kind === EntryKind.message || event === undefined ? (
        <Bubble {...p} />
      ) : (
        <p class="event" dir="auto">
          {event}
        </p>
      )}
    </>
  );
});
