import { checkConversationID, checkUserID, type ConversationID, PimError, type UserID } from "../pim/index.js";
import { type Duration, second } from "./duration.js";
import { type Engine } from "./engine.js";
import { type PIMPresence, type PIMReceipt, type PIMTyping } from "./frames.js";
import { type Look } from "./io.js";
import { receiptsOf } from "./receipts.js";
import { type PresenceEvent, type ReceiptEvent, type TypingEvent } from "./types.js";

const maxLooks = 100;
const typingEvery: Duration = second; // between two PIMTyping for a conversation, at least

/** What the app has on its screen, and whom it lets know that the user writes. */
export interface Looking {
  conversations: ConversationID[];
  users: UserID[];
  request: number; // of the last PIMLook
  typing: ConversationID; // of the last PIMTyping
  typedAt: Duration;
}

/** Takes Look. It throws a PimError if that is refused. */
export function takeLook(e: Engine, input: Look): void {
  const n = input.conversations.length + input.users.length;
  if (n > maxLooks) {
    const text = `${n} conversations and users on the screen, at most ${maxLooks} are looked at`;
    throw new PimError("too_large", text);
  }
  input.conversations.forEach(checkConversationID);
  input.users.forEach(checkUserID);
  e.looks.conversations = [...input.conversations];
  e.looks.users = [...input.users];
  if (e.link.phase === "open") {
    tellLook(e);
  }
}

/** Tells the server what is on the screen. */
export function tellLook(e: Engine): void {
  const requestId = e.fx.request();
  e.looks.request = requestId;
  const { conversations, users } = e.looks;
  e.fx.write({ type: "PIMLook", body: { conversations, users, requestId } });
}

/** Takes Typing. It throws a PimError if that is refused. */
export function takeTyping(e: Engine, conversation: ConversationID): void {
  checkConversationID(conversation);
  const now = e.fx.now.mono;
  const told = conversation === e.looks.typing && now - e.looks.typedAt < typingEvery;
  if (e.link.phase !== "open" || told) {
    return;
  }
  e.looks.typing = conversation;
  e.looks.typedAt = now;
  e.fx.write({ type: "PIMTyping", body: { conversation } });
}

export function receiptEvent(m: PIMReceipt): ReceiptEvent {
  return {
    type: "receipt",
    conversation: m.conversation,
    receipts: {
      delivered: m.delivered,
      read: m.read,
      readAt: m.readMs,
      messages: receiptsOf(m.receipts),
      readers: [],
      next: "",
    },
  };
}

export function typingEvent(m: PIMTyping): TypingEvent {
  return { type: "typing", conversation: m.conversation, users: [...m.users] };
}

export function presenceEvent(m: PIMPresence): PresenceEvent {
  return { type: "presence", user: m.user, online: m.online, seen: m.seenMs };
}
