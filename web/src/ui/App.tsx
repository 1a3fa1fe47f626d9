import { checkConversationID } from "@pim-im/client";
import { useEffect } from "preact/hooks";
import type { Chat } from "../chat";
import { useSignal } from "../signal";
import { t } from "../words";
import { Banner } from "./Banner";
import { Mark } from "./Mark";
import { RoomView } from "./RoomView";
import { Sidebar } from "./Sidebar";

/** Returns the conversation that the address names; undefined if it names none. */
function named(): string | undefined {
  try {
    const id = decodeURIComponent(location.hash.slice(1));
    checkConversationID(id);
    return id;
  } catch {
    return undefined;
  }
}

/** Says to screen readers what has come, and nothing of what was there before. */
function Announcer({ chat }: { chat: Chat }) {
  useSignal(chat.said);
  return (
    <div class="hidden" role="log" aria-live="polite" aria-atomic="true" aria-label={t.messages}>
      {chat.announcement}
    </div>
  );
}

/** The whole page of a person who has signed in. unkept says why nothing is kept; undefined: all is. */
export function App({ chat, unkept }: { chat: Chat; unkept: string | undefined }) {
  useSignal(chat.changed);
  useEffect(() => {
    const follow = (): void => void chat.open(named());
    follow();
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, [chat]);
  const unread = chat.infos.reduce((n, i) => n + (i.muted ? 0 : i.unread), 0);
  useEffect(() => {
    document.title = unread > 0 ? `(${unread}) ${t.name}` : t.name;
  }, [unread]);
  const { room } = chat;
  return (
    <main class={room ? "shell open" : "shell"}>
      <h1 class="hidden">{t.name}</h1>
      <Banner chat={chat} unkept={unkept} />
      <Sidebar chat={chat} />
      {room ? (
        <RoomView key={room.id} chat={chat} room={room} />
      ) : (
        <div class="welcome">
          <Mark />
          <h2>{t.pickOne}</h2>
          <p>{t.pickOneHint}</p>
        </div>
      )}
      <Announcer chat={chat} />
    </main>
  );
}
