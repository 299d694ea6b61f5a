/** RFC 6962 Merkle trees: SHA-256, leaf prefix 0x00, node prefix 0x01. As `rexis/protocol/merkle.py`. */

import { type Digest, equal, fromHex, sha256, toHex } from "./bytes";
import { RexisError } from "./errors";

export const MAX_PATH = 64;
const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

export function leafHash(data: Uint8Array): Uint8Array {
  return sha256(LEAF, data);
}

function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256(NODE, left, right);
}

/** The root over leaf data, at least one: neighbours are paired level by level, an odd last node goes up as it is. */
export function merkleRoot(leaves: readonly Uint8Array[]): Digest {
  let level = leaves.map(leafHash);
  while (level.length > 1) {
    const above: Uint8Array[] = [];
    for (let i = 0; i < level.length; i += 2) {
      const [left, right] = [level[i], level[i + 1]];
      if (left) above.push(right ? nodeHash(left, right) : left);
    }
    level = above;
  }
  const root = level[0];
  if (!root) throw new RexisError("a tree needs at least one leaf");
  return toHex(root);
}

/** Check that `data` is leaf `index` of the tree of `size` leaves with this root (RFC 9162 §2.1.3.2). */
export function checkInclusion(
  root: Digest,
  size: number,
  index: number,
  data: Uint8Array,
  path: readonly Digest[],
  what = "leaf",
): void {
  const fail = (reason: string): never => {
    throw new RexisError(`${what}: ${reason}`);
  };
  if (index < 0 || index >= size) fail(`index ${index} lies outside a tree of ${size}`);
  if (path.length > MAX_PATH) fail(`a path of ${path.length} nodes`);
  let [place, last, found] = [BigInt(index), BigInt(size - 1), leafHash(data)];
  for (const sibling of path) {
    if (last === 0n) fail("the path is too long");
    if (place & 1n || place === last) {
      found = nodeHash(fromHex(sibling), found);
      while (!(place & 1n) && place) [place, last] = [place >> 1n, last >> 1n];
    } else {
      found = nodeHash(found, fromHex(sibling));
    }
    [place, last] = [place >> 1n, last >> 1n];
  }
  if (last !== 0n) fail("the path is too short");
  if (!equal(found, fromHex(root))) fail(`the path leads to ${toHex(found)}, not to the root ${root}`);
}
