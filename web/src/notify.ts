import type { ConversationID } from "@pim-im/client";

const shown = new Map<ConversationID, Notification>();

/** Whether notifications can be had: "default" means that nobody has been asked. */
export function permission(): NotificationPermission {
  return "Notification" in window ? Notification.permission : "denied";
}

/** Asks the person. Browsers allow that after a click only. */
export async function ask(): Promise<void> {
  if (permission() === "default") {
    await Notification.requestPermission();
  }
}

/** Notifies of a message; the newest of a conversation takes the place of the one before. */
export function notify(conversation: ConversationID, title: string, body: string): void {
  if (permission() !== "granted") {
    return;
  }
  try {
    const n = new Notification(title, { body: body.slice(0, 300), tag: conversation });
    n.onclick = () => {
      window.focus();
      location.hash = encodeURIComponent(conversation);
      n.close();
    };
    shown.set(conversation, n);
  } catch {
    // Some mobile browsers notify by service workers only.
  }
}

/** Takes the notification of a conversation away: it was read, here or elsewhere. */
export function withdraw(conversation: ConversationID): void {
  shown.get(conversation)?.close();
  shown.delete(conversation);
}
