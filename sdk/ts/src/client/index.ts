// The API: open, Client, Conversation, View. See session.ts for what it is built on.
export { type Client, open } from "./client.js";
export { type Answer, answerID } from "./confirm.js";
export type { Socket, SocketConstructor } from "./connection.js";
export type { Conversation, Kept, PullOptions, SendOptions } from "./conversation.js";
export type * from "./events.js";
export type { Info } from "./info.js";
export { errClosed } from "./loop.js";
export type { Message, Reactions } from "./message.js";
export type { Options } from "./options.js";
export type { EventsOptions } from "./queue.js";
export type { Sending } from "./sending.js";
export type { View } from "./view.js";
export type { Waiting } from "./wait.js";
export type { Member, Members, Page, Pending, Reader, Receipt, Receipts } from "../engine/index.js";
