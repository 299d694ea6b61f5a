/** Which records a challenge draws, as `rexis/protocol/challenge.py`: from a block that nobody knew beforehand. */

import { bigEndian, type Digest, fromHex, sha256, toBigInt, utf8 } from "./bytes";

const DOMAIN = utf8("rexis.challenge.v1\0");

/** The `min(k, count)` distinct absolute record indices of a challenge, sorted. */
export function challengeIndices(statement: Digest, block: Digest, start: number, count: number, k: number): number[] {
  if (k >= count) return Array.from({ length: count }, (_, index) => start + index);
  const seed = sha256(DOMAIN, fromHex(statement), fromHex(block));
  const chosen = new Set<number>();
  for (let counter = 0; chosen.size < k; counter++) {
    chosen.add(start + Number(toBigInt(sha256(seed, bigEndian(counter, 8))) % BigInt(count)));
  }
  return [...chosen].sort((a, b) => a - b);
}
