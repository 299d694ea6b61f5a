/** Bytes and their one text form: lower-case hexadecimal behind `0x`. */

import { keccak_256 } from "@noble/hashes/sha3.js";
import { sha256 as nobleSha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from "@noble/hashes/utils.js";

/** Bytes in their text form, `0x…`. */
export type Hex = string;
/** A 32-byte digest in its text form. */
export type Digest = Hex;
/** An address in its EIP-55 form. */
export type Address = string;

export const WORD = 32;
export const ZERO_DIGEST: Digest = `0x${"0".repeat(64)}`;

export { concatBytes as concat, utf8ToBytes as utf8 };

export function toHex(bytes: Uint8Array): Hex {
  return `0x${bytesToHex(bytes)}`;
}

/** The bytes of a text that a schema has found to be hexadecimal. */
export function fromHex(text: Hex): Uint8Array {
  return hexToBytes(text.slice(2));
}

export function sha256(...parts: Uint8Array[]): Uint8Array {
  const state = nobleSha256.create();
  for (const part of parts) state.update(part);
  return state.digest();
}

export function keccak(...parts: Uint8Array[]): Uint8Array {
  const state = keccak_256.create();
  for (const part of parts) state.update(part);
  return state.digest();
}

export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/** A number, big-endian, in so many bytes. */
export function bigEndian(value: number | bigint, length: number): Uint8Array {
  return hexToBytes(
    BigInt(value)
      .toString(16)
      .padStart(2 * length, "0"),
  );
}

export function toBigInt(bytes: Uint8Array): bigint {
  return bytes.length === 0 ? 0n : BigInt(toHex(bytes));
}

/** The number that little-endian bytes are. */
export function littleEndian(bytes: Uint8Array): bigint {
  return toBigInt(Uint8Array.from(bytes).reverse());
}

/** The EIP-55 form of 20 bytes. */
export function checksummed(raw: Uint8Array): Address {
  const lower = bytesToHex(raw);
  const nibbles = bytesToHex(keccak(utf8ToBytes(lower)));
  const isUpper = (place: number): boolean => parseInt(nibbles[place] ?? "0", 16) >= 8;
  return `0x${[...lower].map((digit, place) => (isUpper(place) ? digit.toUpperCase() : digit)).join("")}`;
}
