/** As much of Solidity's ABI as is needed: calls with words and dynamic arrays, and answers of words. */

import { bigEndian, concat, fromHex, type Hex, keccak, toBigInt, toHex, utf8, WORD } from "./bytes";

/** An argument: one word, or the tail of a dynamic one with its length in front. */
export type Argument = Uint8Array | { tail: Uint8Array };

export function word(value: number | bigint | Hex): Uint8Array {
  return bigEndian(BigInt(value), WORD);
}

/** A `bytes`. */
export function bytesArgument(raw: Uint8Array): Argument {
  const padding = new Uint8Array((WORD - (raw.length % WORD)) % WORD);
  return { tail: concat(word(raw.length), raw, padding) };
}

/** An array of words. */
export function wordsArgument(words: readonly Uint8Array[]): Argument {
  return { tail: concat(word(words.length), ...words) };
}

/** Calldata: selector, head, tails. */
export function encodeCall(signature: string, ...values: readonly Argument[]): Uint8Array {
  const tails: Uint8Array[] = [];
  let at = values.length * WORD;
  const heads = values.map((value) => {
    if (value instanceof Uint8Array) return value;
    tails.push(value.tail);
    at += value.tail.length;
    return word(at - value.tail.length);
  });
  return concat(selector(signature), ...heads, ...tails);
}

/** First four bytes of a function's or an error's hash. */
export function selector(signature: string): Uint8Array {
  return keccak(utf8(signature)).subarray(0, 4);
}

/** The topic of an event. */
export function topic(signature: string): Hex {
  return toHex(keccak(utf8(signature)));
}

/** The first `count` words of an answer; null if it is shorter. */
export function decodeWords(answer: Hex, count: number): Hex[] | null {
  const raw = fromHex(answer);
  if (raw.length < count * WORD) return null;
  return Array.from({ length: count }, (_, index) => toHex(raw.subarray(index * WORD, (index + 1) * WORD)));
}

export function numberOf(found: Hex): number {
  return Number(toBigInt(fromHex(found)));
}
