import { type Entry, type ConversationID } from "../pim/index.js";
import { type Bodies, type EntryBody, entryOf } from "../wire/index.js";
import { orUndefined } from "./refusal.js";

// The bodies of frames that the engine takes, and their parts.

export type Welcome = Bodies["Welcome"];
export type LimitsBody = NonNullable<Welcome["limits"]>;
export type PIMSendAck = Bodies["PIMSendAck"];
export type PIMPush = Bodies["PIMPush"];
export type PIMPullResp = Bodies["PIMPullResp"];
export type Standing = NonNullable<PIMPullResp["standing"]>;
export type PIMSyncResp = Bodies["PIMSyncResp"];
export type Summary = PIMSyncResp["conversations"][number];
export type Front = PIMSyncResp["fronts"][number];
export type PIMReceiptResp = Bodies["PIMReceiptResp"];
export type PIMMembersResp = Bodies["PIMMembersResp"];
export type PIMReceipt = Bodies["PIMReceipt"];
export type ReceiptBody = PIMReceipt["receipts"][number];
export type PIMTyping = Bodies["PIMTyping"];
export type PIMPresence = Bodies["PIMPresence"];
export type PIMGoAway = Bodies["PIMGoAway"];
export type PIMErrorBody = Bodies["PIMError"];

/** Returns the entry of a conversation that body has; undefined if it cannot be read. */
export function readableEntry(id: ConversationID, body: EntryBody): Entry | undefined {
  return orUndefined(() => entryOf(id, body));
}
