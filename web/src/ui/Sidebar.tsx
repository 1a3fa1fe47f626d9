import { EntryKind, isGroup } from "@pim-im/client";
import { memo } from "preact/compat";
import { useEffect, useState } from "preact/hooks";
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
function preview(me: string, info: Listed): string {
  const { last, waiting } = info;
  if (waiting !== undefined) {
    return waiting.failed ? t.unsent(waiting.text) : `${t.you}: ${waiting.text}`;
  }
  if (!last) {
    return "";
  }
  const own = last.sender === me;
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
      return eventText(last, me) ?? "";
  }
}

interface LineProps {
  readonly me: string;
  readonly info: Listed;
  readonly open: boolean;
  readonly title: string;
  readonly draft: string;
}

/** A conversation in the list. It is drawn again only when something of it has changed. */
const Line = memo(function Line({ me, info, open, title, draft }: LineProps) {
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
          ) : info.invited ? (
            t.invitedYou(info.last?.sender ?? "")
          ) : info.left ? (
            t.left
          ) : (
            preview(me, info)
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
});

/** How many lines of the list are drawn at first, more than are in sight, and how many more then at a time. */
const firstLines = 40;
const moreLines = 120;

/** Returns how many of all lines are to be drawn: some at first, so that a person does not wait for those out of sight. */
function useLines(all: number): number {
  const [drawn, setDrawn] = useState(firstLines);
  useEffect(() => {
    if (drawn >= all) {
      return undefined;
    }
    const timer = setTimeout(() => setDrawn(drawn + moreLines));
    return () => clearTimeout(timer);
  }, [drawn, all]);
  return drawn;
}

/** The list of conversations. */
export function Sidebar({ chat }: { chat: Chat }) {
  useSignal(chat.changed);
  const [creating, setCreating] = useState(false);
  const [, asked] = useState(0);
  const drawn = useLines(chat.infos.length);
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
          {chat.infos.slice(0, drawn).map((info) => {
            const open = chat.room?.id === info.id;
            const draft = open ? "" : chat.draft(info.id);
            return <Line key={info.id} me={chat.me.user} info={info} open={open} title={chat.title(info.id)} draft={draft} />;
          })}
        </ul>
      )}
      {creating && <NewChat chat={chat} onClose={() => setCreating(false)} />}
    </nav>
  );
}
