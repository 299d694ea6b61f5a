/** secp256k1 signatures over 32-byte digests, as `rexis/protocol/signing.py`. */

import { secp256k1 } from "@noble/curves/secp256k1.js";
import {
  type Address,
  checksummed,
  concat,
  type Digest,
  fromHex,
  type Hex,
  keccak,
  toBigInt,
  toHex,
  utf8,
} from "./bytes";
import { RexisError } from "./errors";

// Half the group order: EIP-2 admits low s only, so that a signature cannot be turned into a second valid one.
const HALF_ORDER = secp256k1.Point.Fn.ORDER >> 1n;

/** The address that signed a digest; refuses all but 65 bytes r ‖ s ‖ v, with v 27 or 28 and a low s. */
export function recover(digest: Digest, signature: Hex): Address {
  const raw = fromHex(signature);
  if (raw.length !== 65) throw new RexisError(`a signature is 65 bytes, not ${raw.length}`);
  const v = raw[64] ?? 0;
  if (v !== 27 && v !== 28) throw new RexisError(`recovery byte ${v} is neither 27 nor 28`);
  if (toBigInt(raw.subarray(32, 64)) > HALF_ORDER) throw new RexisError("signature with a high s (EIP-2)");
  try {
    const parsed = secp256k1.Signature.fromBytes(concat(Uint8Array.of(v - 27), raw.subarray(0, 64)), "recovered");
    const key = parsed.recoverPublicKey(fromHex(digest)).toBytes(false);
    return checksummed(keccak(key.subarray(1)).subarray(12));
  } catch {
    throw new RexisError("not a signature");
  }
}

/** Throws unless `expected` signed the digest. */
export function requireSigner(digest: Digest, signature: Hex, expected: Address, what: string): void {
  const found = recover(digest, signature);
  if (found !== expected) throw new RexisError(`${what} is signed by ${found}, not by ${expected}`);
}

/** The EIP-191 digest of a text message. */
export function textDigest(text: string): Digest {
  const raw = utf8(text);
  return toHex(keccak(utf8(`\x19Ethereum Signed Message:\n${raw.length}`), raw));
}
