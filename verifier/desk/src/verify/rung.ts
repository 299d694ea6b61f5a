/** The model owner's claim that a model earns the rung `ee-private-weights`, as `rexis/protocol/rung.py`. */

import { type Digest } from "./bytes";
import { RexisError } from "./errors";
import { hex, object, positive, type Read } from "./schema";
import { requireSigner } from "./signing";
import { Rung } from "./statement";
import { AddressMember, Bytes32, type Domain, narrowed, signedDigest, struct, Uint64 } from "./typedData";

// Smallest relative Frobenius distance of a layer from the public base model's, in units of 10⁻⁹: its own length.
const PRIVATE_WEIGHTS_DISTANCE_E9 = 1_000_000_000;

const NEEDED = percent(PRIVATE_WEIGHTS_DISTANCE_E9, 0);

const RungClaim = struct("RungClaim", {
  rung: Rung,
  modelDigest: Bytes32,
  keyEpoch: narrowed(Uint64, positive),
  baseDigest: Bytes32,
  distanceE9: Uint64,
  thresholdE9: Uint64,
  cardDigest: Bytes32,
  owner: AddressMember,
});

export const readSignedClaim = object({ claim: RungClaim.read, signature: hex });
export type SignedRungClaim = Read<typeof readSignedClaim>;

/** Check all of a claim that can be checked without the plain model; says what is claimed. */
export function requireRungClaim(
  signed: SignedRungClaim,
  domain: Domain,
  about: { rung: Rung; model: Digest; epoch: number },
): string {
  const { claim } = signed;
  const fail = (field: string, message: string, hint?: string): never => {
    throw new RexisError(message, { field: `rungClaim.claim.${field}`, hint });
  };
  if (claim.rung !== about.rung) fail("rung", `claims rung ${claim.rung}, not ${about.rung}`);
  if (claim.modelDigest !== about.model) fail("modelDigest", `is about model ${claim.modelDigest}, not ${about.model}`);
  if (claim.keyEpoch !== about.epoch) fail("keyEpoch", `is about key epoch ${claim.keyEpoch}, not ${about.epoch}`);
  if (claim.thresholdE9 < PRIVATE_WEIGHTS_DISTANCE_E9) {
    fail("thresholdE9", `measures against a threshold of ${percent(claim.thresholdE9, 1)}, ${NEEDED} are needed`);
  }
  if (claim.distanceE9 < claim.thresholdE9) {
    fail(
      "distanceE9",
      `a layer is only ${percent(claim.distanceE9, 1)} from the base model, ` +
        `${percent(claim.thresholdE9, 0)} are needed`,
      "fine-tune further, or offer the model as ee-outsourced",
    );
  }
  requireSigner(signedDigest(domain, RungClaim, claim), signed.signature, claim.owner, "rung claim");
  return (
    `claimed by the owner ${claim.owner}, not checkable without the plain weights: every layer at least ` +
    `${percent(claim.distanceE9, 1)} from base model ${claim.baseDigest} (${percent(claim.thresholdE9, 0)} needed)`
  );
}

function percent(partsE9: number, digits: number): string {
  return `${(partsE9 / 1e7).toFixed(digits)}%`;
}
