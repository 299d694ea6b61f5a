/**
 * Validators that the auditor trusts, by the manifest of their deployment. As `contracts/accountability.py`, as far as
 * validators go: where the deployment's other contracts stand, a page does not use, and does not check.
 */

import { bytecode as quorumCode } from "../../../../contracts/abi/ValidatorQuorum.json";
import type { Address } from "./bytes";
import { create2, DEPLOYMENT } from "./contracts";
import { RexisError } from "./errors";
import { decode, parseJson } from "./json";
import { address, integer, object, positive, type Read, type Reader, refuse, uint64 } from "./schema";

/** A ValidatorQuorum on a chain. */
export interface Quorum {
  chainId: number;
  address: Address;
}

const ZERO_ADDRESS: Address = `0x${"0".repeat(40)}`;
const BPS = 10_000;

/** Of a token's smallest unit, or wei: more than JSON's numbers hold, so a string of digits. */
const amount: Reader<bigint> = (value, path) => {
  const written = typeof value === "number" ? String(value) : value;
  if (typeof written !== "string" || !/^[1-9][0-9]{0,38}$/.test(written) || BigInt(written) >= 1n << 128n) {
    refuse(path, "not an amount: decimal digits, as a string");
  }
  return BigInt(written);
};

const somebody: Reader<Address> = (value, path) => {
  const found = address(value, path);
  return found === ZERO_ADDRESS ? refuse(path, "is the zero address") : found;
};

const Terms = object({
  governance: somebody,
  token: address,
  bond: amount,
  penalty: amount,
  rewardBps: integer(0, BPS - 1),
  treasury: somebody,
  challengePeriod: positive,
  responseWindow: positive,
  validatorDelay: positive,
  validatorMinStake: amount,
  thresholdBps: integer(BPS / 2, BPS - 1),
});

const Manifest = object({
  chainId: uint64,
  terms: Terms,
  disputes: address,
  workerRegistry: address,
  jobEscrow: address,
  validatorQuorum: address,
});

/** The quorum of a manifest, whose address follows from its terms and from the code of this version's contract. */
export function readQuorum(manifest: Uint8Array): Quorum {
  const { chainId, terms, validatorQuorum } = Manifest(parseJson(decode(manifest)), "");
  const expected = addressOn(terms);
  if (validatorQuorum !== expected) {
    throw new RexisError(`${validatorQuorum} does not follow from the terms: ${expected} does`, {
      field: "validatorQuorum",
    });
  }
  return { chainId, address: validatorQuorum };
}

function addressOn(terms: Read<typeof Terms>): Address {
  const { governance, token, validatorDelay, thresholdBps, validatorMinStake } = terms;
  const log = DEPLOYMENT.evidenceLog;
  return create2(quorumCode, governance, token, validatorDelay, log, thresholdBps, validatorMinStake);
}
