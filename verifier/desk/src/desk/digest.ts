import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

/** SHA-256 as `0x…`. Not by `crypto.subtle`, which browsers keep from pages that come by plain HTTP. */
export function digestOf(data: Uint8Array): string {
  return `0x${bytesToHex(sha256(data))}`;
}

export const isDigest = (text: string): boolean => /^0x[0-9a-f]{64}$/.test(text);
export const isAddress = (text: string): boolean => /^0x[0-9a-fA-F]{40}$/.test(text);

/** First and last digits, for people who compare at a glance; the whole stands beside it or is copied. */
export function short(text: string): string {
  return text.length > 20 ? `${text.slice(0, 10)}…${text.slice(-6)}` : text;
}
