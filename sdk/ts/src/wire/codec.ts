import { codecOf } from "../proto/codec.js";
import { fields, type Messages } from "./pb/pim_fields.js";

export type { Init, Plain } from "../proto/codec.js";

/** The name of a message of pim.proto. */
export type MessageName = keyof Messages;

/**
 * Reads and writes the messages of pim.proto. A frame with a seq, a count or a serial of 2^53 or more is refused, which only a
 * broken server sends. A Command is what a device of the user says, and nobody has checked all its numbers: devices that refuse
 * it would have another setting than those that read it. Text is what the servers and the other SDKs take.
 */
export const { read: readMessage, write: writeMessage } = codecOf<Messages>(fields, {
  saturated: ["Command"],
  strictText: false,
});
