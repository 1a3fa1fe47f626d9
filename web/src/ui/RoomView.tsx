import { useState } from "preact/hooks";
import type { Chat } from "../chat";
import { briefly } from "../dates";
import type { Room } from "../room";
import { useSignal } from "../signal";
import { t } from "../words";
import { Avatar } from "./Avatar";
import { Composer } from "./Composer";
import { History } from "./History";
import { Icon } from "./icons";
import { Members } from "./Members";
import { Menu } from "./Menu";

/** What is known of those on the other side, in one line. */
function Subtitle({ room }: { room: Room }) {
  useSignal(room.changed);
  const { here, writers } = room;
  if (writers.length > 0) {
    return <p class="quiet">{t.typing([...writers])}</p>;
  }
  if (room.group) {
    return <p class="quiet">{room.members.length > 0 ? t.memberCount(room.members.length) : ""}</p>;
  }
  return (
    <p class={here?.online ? "quiet online" : "quiet"}>
      {here?.online ? t.online : here?.seen ? t.seen(briefly(here.seen)) : ""}
    </p>
  );
}

/** One conversation: its head, its messages, and where to write. */
export function RoomView({ chat, room }: { chat: Chat; room: Room }) {
  useSignal(chat.changed);
  useSignal(room.changed);
  const [members, setMembers] = useState(false);
  const info = chat.info(room.id);
  const title = chat.title(room.id);
  const toList = (): void => {
    location.hash = "";
  };
  const invited = info?.invited === true;
  const member = room.group && !info?.left && !invited && !room.outside;
  const choices = [
    ...(member ? [{ label: t.members, act: () => setMembers(true) }] : []),
    { label: info?.pinned ? t.unpin : t.pin, act: () => void room.pin(!info?.pinned) },
    { label: info?.muted ? t.unmute : t.mute, act: () => void room.mute(!info?.muted) },
    {
      label: t.markUnread,
      act: () => {
        toList(); // what is open is read
        void room.markUnread();
      },
    },
  ];
  return (
    <section class="room" aria-label={title}>
      <header>
        <a class="plain back" href="#" aria-label={t.back}>
          <Icon name="back" />
        </a>
        <Avatar name={title} group={room.group} />
        <div class="heading">
          <h2 dir="auto">{title}</h2>
          <Subtitle room={room} />
        </div>
        {member && (
          <button type="button" class="plain" aria-label={t.members} title={t.members} onClick={() => setMembers(true)}>
            <Icon name="people" />
          </button>
        )}
        <Menu label={t.more} choices={choices} />
      </header>
      <History chat={chat} room={room} />
      {invited ? (
        <div class="gone-by" role="status">
          <p>{t.invitedYou(info?.last?.sender ?? "")}</p>
          <p class="answers">
            <button type="button" class="primary" onClick={() => void room.answer(true)}>
              {t.accept}
            </button>
            <button type="button" onClick={() => void room.answer(false)}>
              {t.decline}
            </button>
          </p>
        </div>
      ) : info?.left || room.outside ? (
        <p class="gone-by" role="status">
          {info?.known ? t.left : t.noGroup}
        </p>
      ) : (
        <Composer chat={chat} room={room} />
      )}
      {members && <Members room={room} onClose={() => setMembers(false)} />}
    </section>
  );
}
