import { type AppInput } from "../client/session.js";
import { checkConversationID, checkUserID, type ConversationID, PimError, type UserID } from "../pim/index.js";

/** How many conversations and users a look has at most. */
const maxLook = 100;

/** What a tab says of itself. The leader makes one device of all of it. */
export interface Says {
  foreground: boolean;
  online: boolean;
  hold: boolean;
  open: ConversationID;
  reading: ConversationID[];
  look: { conversations: ConversationID[]; users: UserID[] };
}

/** Returns what a tab says that has said nothing yet. */
export function saysNothing(): Says {
  return { foreground: false, online: true, hold: false, open: "", reading: [], look: { conversations: [], users: [] } };
}

/**
 * Takes into says what an input of the app says of this tab, and reports whether it does; other inputs are for the leader. It throws
 * a PimError, and says stays as it is, if the input is not valid.
 */
export function noteSaid(says: Says, input: AppInput): boolean {
  switch (input.type) {
    case "foreground":
      says.foreground = input.on;
      return true;
    case "online":
      says.online = input.on;
      return true;
    case "open":
      says.open = input.conversation;
      return true;
    case "reading":
      checkConversationID(input.conversation);
      says.reading = says.reading.filter((c) => c !== input.conversation);
      if (input.on) {
        says.reading.push(input.conversation);
      }
      return true;
    case "look": {
      const { conversations, users } = input;
      conversations.forEach(checkConversationID);
      users.forEach(checkUserID);
      const n = conversations.length + users.length;
      if (n > maxLook) {
        throw new PimError("too_large", `a look at ${n}, at most ${maxLook} are allowed`);
      }
      says.look = { conversations, users };
      return true;
    }
    default:
      return false;
  }
}

/** Returns what all tabs say together; looking are those that a person looks at, or all if there is none. */
export function mergedOf(all: readonly Says[], looking: readonly Says[]): Says {
  const last = [...looking].reverse();
  const conversations = [...new Set(last.flatMap((says) => says.look.conversations))].slice(0, maxLook);
  const users = [...new Set(last.flatMap((says) => says.look.users))].slice(0, maxLook - conversations.length);
  return {
    foreground: all.some((says) => says.foreground),
    online: all.length === 0 || all.some((says) => says.online),
    hold: all.some((says) => says.hold),
    open: last.find((says) => says.open !== "")?.open ?? "",
    reading: [...new Set(looking.flatMap((says) => says.reading))],
    look: { conversations, users },
  };
}
