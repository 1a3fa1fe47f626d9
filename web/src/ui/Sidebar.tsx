import { EntryKind, isGroup } from "@pim-im/client";
import { useState } from "preact/hooks";
import type { Chat } from "../chat";
import { briefly, exactly } from "../dates";
import type { Listed } from "../list";
import { signOut } from "../login";
import { ask, permission } from "../notify";
import { eventText } from "../said";
import { useSignal } from "../signal";
import { t } from "../words";
import { Avatar } from "./Avatar";
import { Icon } from "./icons";
import { Menu } from "./Menu";
import { NewChat } from "./NewChat";

/** Returns what the list shows of the newest entry, or of what waits to be sent. */
function preview(chat: Chat, info: Listed): string {
  const { last, waiting } = info;
  if (waiting !== undefined) {
    return waiting.failed ? t.unsent(waiting.text) : `${t.you}: ${waiting.text}`;
  }
  if (!last) {
    return "";
  }
  const own = last.sender === chat.me.user;
  const name = own ? t.you : last.sender;
  switch (last.kind) {
    case EntryKind.message:
    case EntryKind.edit: {
      const text = last.erased ? t.recalled : info.text();
      return own || isGroup(info.id) ? `${name}: ${text}` : text;
    }
    case EntryKind.recall:
      return t.recalledOne(name);
    case EntryKind.reaction:
      return last.removed ? t.unreacted(name) : t.reacted(name, last.reaction);
    case EntryKind.pin:
      return last.removed ? t.unpinnedOne(name) : t.pinnedOne(name);
    default:
      return eventText(last, chat.me.user) ?? "";
  }
}

function Line({ chat, info }: { chat: Chat; info: Listed }) {
  const open = chat.room?.id === info.id;
  const title = chat.title(info.id);
  const draft = open ? "" : chat.draft(info.id);
  const unread = info.unread > 0 || info.marked;
  return (
    <li>
      <a
        href={`#${encodeURIComponent(info.id)}`}
        class={`line${unread && !info.muted ? " unread" : ""}`}
        aria-current={open ? "page" : undefined}
      >
        <Avatar name={title} group={isGroup(info.id)} />
        <span class="title" dir="auto">
          {title}
        </span>
        {info.time > 0 && (
          <time dateTime={new Date(info.time).toISOString()} title={exactly(info.time)}>
            {briefly(info.time)}
          </time>
        )}
        <span class="preview" dir="auto">
          {draft ? (
            <>
              <em>{t.draft}</em> {draft}
            </>
          ) : info.left ? (
            t.left
          ) : (
            preview(chat, info)
          )}
        </span>
        <span class="marks">
          {info.muted && (
            <span role="img" aria-label={t.muted}>
              <Icon name="mute" />
            </span>
          )}
          {info.pinned && (
            <span role="img" aria-label={t.pinned}>
              <Icon name="pin" />
            </span>
          )}
          {info.mentions > 0 && (
            <span class="badge named" role="img" aria-label={t.mentionsYou}>
              @
            </span>
          )}
          {info.unread > 0 ? (
            <span class="badge" role="img" aria-label={t.unread(info.unread)}>
              {info.unread > 999 ? "999+" : info.unread}
            </span>
          ) : (
            info.marked && <span class="badge dot" role="img" aria-label={t.marked} />
          )}
        </span>
      </a>
    </li>
  );
}

/** The list of conversations. */
export function Sidebar({ chat }: { chat: Chat }) {
  useSignal(chat.changed);
  const [creating, setCreating] = useState(false);
  const [, asked] = useState(0);
  const menu = [
    ...(permission() === "default"
      ? [{ label: t.notificationsOn, act: () => void ask().then(() => asked((n) => n + 1)) }]
      : [{ label: permission() === "granted" ? t.notificationsAreOn : t.notificationsBlocked, act: () => undefined }]),
    { label: t.signOut, act: signOut },
  ];
  return (
    <nav class="sidebar" aria-label={t.conversations}>
      <header>
        <Avatar name={chat.me.user} />
        <h2 dir="auto">{chat.me.user}</h2>
        <Menu label={t.more} choices={menu} />
        <button type="button" class="plain" aria-label={t.newChat} title={t.newChat} onClick={() => setCreating(true)}>
          <Icon name="plus" />
        </button>
      </header>
      {chat.ready && chat.infos.length === 0 ? (
        <div class="empty">
          <p>{t.noConversations}</p>
          <p class="quiet">{t.noConversationsHint}</p>
          <button type="button" class="primary" onClick={() => setCreating(true)}>
            {t.newChat}
          </button>
        </div>
      ) : (
        <ul class="lines">
          {chat.infos.map((info) => (
            <Line key={info.id} chat={chat} info={info} />
          ))}
        </ul>
      )}
      {creating && <NewChat chat={chat} onClose={() => setCreating(false)} />}
    </nav>
  );
}
