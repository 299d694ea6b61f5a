/**
 * How decoded JSON becomes typed, checked values: no unknown fields, no coercion, every field there. A reader gets a
 * value and its JSON path, and throws with that path.
 */

import { type Address, checksummed, type Digest, fromHex, type Hex } from "./bytes";
import { RexisError } from "./errors";
import { isList, type Json, type JsonObject } from "./json";

export type Reader<T> = (value: Json | undefined, path: string) => T;
export type Read<R> = R extends Reader<infer T> ? T : never;

type Fields = Record<string, Reader<unknown>>;
type Values<F extends Fields> = { readonly [K in keyof F]: Read<F[K]> };

export function refuse(path: string, message: string, hint?: string): never {
  throw new RexisError(message, { field: path, hint });
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === null;
}

/** An object with exactly these fields; `check` looks at how they go together. */
export function object<F extends Fields>(
  fields: F,
  check?: (value: Values<F>, path: string) => void,
): Reader<Values<F>> {
  return (value, path) => {
    if (!isObject(value)) refuse(path, "should be an object");
    const found: Record<string, unknown> = {};
    for (const [name, read] of Object.entries(fields)) found[name] = read(value[name], within(path, name));
    for (const name of Object.keys(value))
      if (!(name in fields)) refuse(within(path, name), "Extra inputs are not permitted");
    const typed = found as Values<F>;
    check?.(typed, path);
    return typed;
  };
}

export function list<T>(item: Reader<T>, size: { least?: number; most: number }): Reader<readonly T[]> {
  return (value, path) => {
    if (!isList(value)) refuse(path, "should be a list");
    const least = size.least ?? 0;
    if (value.length < least) refuse(path, `should have at least ${least} item${least === 1 ? "" : "s"}`);
    if (value.length > size.most) refuse(path, `should have at most ${size.most} items`);
    return value.map((each, index) => item(each, within(path, String(index))));
  };
}

/** Null, or a value. */
export function nullable<T>(read: Reader<T>): Reader<T | null> {
  return (value, path) => (value === null ? null : read(value, path));
}

/** Not there, or a value. */
export function optional<T>(read: Reader<T>): Reader<T | undefined> {
  return (value, path) => (value === undefined ? undefined : read(value, path));
}

/** An integer between two bounds. */
export function integer(least: number, most: number): Reader<number> {
  return (value, path) => {
    if (typeof value !== "number" || value < least || value > most) {
      refuse(path, `should be an integer from ${least} to ${most}`);
    }
    return value;
  };
}

export const uint8 = integer(0, 2 ** 8 - 1);
export const uint16 = integer(0, 2 ** 16 - 1);
export const uint32 = integer(0, 2 ** 32 - 1);
/** RFC 8259 §6: integers that every JSON reader agrees on. */
export const uint64 = integer(0, Number.MAX_SAFE_INTEGER);
export const positive = integer(1, Number.MAX_SAFE_INTEGER);

export const flag: Reader<boolean> = (value, path) =>
  typeof value === "boolean" ? value : refuse(path, "should be true or false");

/** Text of so many characters, that matches a pattern. */
export function text(bounds: { least?: number; most: number; pattern?: RegExp }): Reader<string> {
  return (value, path) => {
    if (typeof value !== "string") refuse(path, "should be a text");
    if (/\p{Surrogate}/u.test(value)) refuse(path, "should be Unicode text");
    const length = value.length <= bounds.most && !bounds.least ? 0 : [...value].length;
    if (length > bounds.most || length < (bounds.least ?? 0)) {
      refuse(path, `should have ${bounds.least ?? 0} to ${bounds.most} characters`);
    }
    if (bounds.pattern && !bounds.pattern.test(value)) refuse(path, `should match pattern '${bounds.pattern.source}'`);
    return value;
  };
}

/** One of several texts. */
export function oneOf<T extends string>(...names: readonly T[]): Reader<T> {
  return (value, path) => names.find((name) => name === value) ?? refuse(path, `expected one of ${names.join(", ")}`);
}

export const digest: Reader<Digest> = (value, path) =>
  typeof value === "string" && /^0x[0-9a-f]{64}$/.test(value)
    ? value
    : refuse(path, "not a digest; expected 0x and 64 lower-case hexadecimal digits");

export const address: Reader<Address> = (value, path) => {
  if (typeof value !== "string" || !/^0x[0-9a-fA-F]{40}$/.test(value)) {
    refuse(path, "not an address; 0x and 40 hexadecimal digits");
  }
  if (value !== checksummed(fromHex(value))) refuse(path, "address with a wrong checksum; EIP-55 mixed case");
  return value;
};

export const hex: Reader<Hex> = (value, path) =>
  typeof value === "string" && /^0x(?:[0-9a-f]{2})*$/.test(value)
    ? value
    : refuse(path, "not hexadecimal bytes; 0x and lower-case digit pairs");

/** Bytes in base64, in its one form. */
export const base64: Reader<Uint8Array> = (value, path) => {
  if (typeof value !== "string") refuse(path, "should be a text");
  try {
    const raw = Uint8Array.from(atob(value), (character) => character.charCodeAt(0));
    if (encodeBase64(raw) === value) return raw;
  } catch {
    // falls through to the refusal
  }
  refuse(path, "not base64 in its canonical form");
};

function encodeBase64(raw: Uint8Array): string {
  const parts: string[] = [];
  for (let start = 0; start < raw.length; start += 0x8000) {
    parts.push(String.fromCharCode(...raw.subarray(start, start + 0x8000)));
  }
  return btoa(parts.join(""));
}

function within(path: string, name: string): string {
  return path ? `${path}.${name}` : name;
}
