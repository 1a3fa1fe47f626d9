import {
  create,
  type DescField,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  ScalarType,
} from "@bufbuild/protobuf";

/** Returns body, a message as the codec has it, as protobuf-es has it. */
export function toMessage<S extends DescMessage>(schema: S, body: object): MessageShape<S> {
  const fields = schema.fields.map((f) => [f.localName, convert(f, fieldOf(body, f.localName))]);
  return create(schema, Object.fromEntries(fields) as MessageInitShape<S>);
}

/** Returns the field of a message, whichever library it is of. */
export function fieldOf(message: object, name: string): unknown {
  return (message as Record<string, unknown>)[name];
}

function convert(f: DescField, value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map((v: unknown) => convertOne(f, v));
  }
  return value === undefined ? undefined : convertOne(f, value);
}

function convertOne(f: DescField, value: unknown): unknown {
  if (f.message && typeof value === "object" && value !== null) {
    return toMessage(f.message, value);
  }
  return typeof value === "number" && is64(f) ? BigInt(value) : value;
}

/** Reports whether protobuf-es has bigints in the field. */
function is64(f: DescField): boolean {
  return f.scalar === ScalarType.INT64 || f.scalar === ScalarType.UINT64;
}
