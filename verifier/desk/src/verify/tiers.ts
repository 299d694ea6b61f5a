/** Which records each tier's evidence must open and prove, and what passing shows. As `verifier/tiers`. */

import { challengeIndices } from "./challenge";
import type { Digest } from "./bytes";
import { RexisError } from "./errors";
import { jobLogSurvival, survival } from "./sampling";
import type { JobRequest, Policy, Statement, Tier } from "./statement";

export interface TierRule {
  proves: boolean;
  /** How many records must be opened; costs nothing. */
  requiredCount(statement: Statement, policy: Policy, block: Digest | null): number;
  /** Their absolute indices, ascending. `block` chooses them: after the commitment, or after the anchor. */
  requiredIndices(statement: Statement, policy: Policy, digest: Digest, block: Digest | null): number[];
  /** What passing shows, in a sentence that claims no more. */
  shows(statement: Statement, policy: Policy, attempt: number): string;
}

const commit: TierRule = {
  proves: false,
  requiredCount: (statement, policy, block) =>
    block === null ? 0 : Math.min(policy.sampleSize, statement.recordCount),
  requiredIndices: (statement, policy, digest, block) =>
    block === null || policy.sampleSize === 0 ? [] : drawn(statement, policy, digest, block),
  shows: () => "who claimed these outputs, and when; that they are right only for records that you re-execute",
};

const sampled: TierRule = {
  proves: true,
  requiredCount: (statement, policy) => Math.min(policy.sampleSize, statement.recordCount),
  requiredIndices: (statement, policy, digest, block) => {
    if (block === null) {
      throw new RexisError("no commitment: a sample needs a block that came after it", { field: "commitment" });
    }
    return drawn(statement, policy, digest, block);
  },
  shows: (statement, policy, attempt) => {
    const [count, sample] = [statement.recordCount, Math.min(policy.sampleSize, statement.recordCount)];
    if (sample === count) return allRight(count);
    const examples = chances(count, (altered) => survival(count, altered, sample, attempt), attempt);
    return `${sample} of ${count} outputs are right; ${examples}`;
  },
};

const zk: TierRule = {
  proves: true,
  requiredCount: (statement) => statement.recordCount,
  requiredIndices: (statement) =>
    Array.from({ length: statement.recordCount }, (_, index) => statement.recordStart + index),
  shows: (statement) => allRight(statement.recordCount),
};

export const TIERS: Readonly<Record<Tier, TierRule>> = { commit, sampled, zk };

/**
 * What the tasks' samples show together, wherever altered records would lie; `attempt` is the largest of the tasks'.
 */
export function showsOfJob(request: JobRequest, attempt: number): string {
  const { policy, recordCount } = request;
  const examples = chances(
    recordCount,
    (altered) => Math.exp(jobLogSurvival(recordCount, policy.shardSize, altered, policy.sampleSize, attempt)),
    attempt,
  );
  return `all tasks together, ${recordCount} outputs: ${examples}`;
}

/** How likely a few numbers of altered ones, out of `count`, and `also` this, would have passed, in the attempts. */
export function chances(count: number, chance: (altered: number) => number, attempt: number, also?: number): string {
  const shares = [100, 10, 2].map((part) => Math.max(1, Math.ceil(count / part)));
  const altered = [...new Set(also === undefined ? shares : [...shares, also])].sort((a, b) => a - b);
  const figures = altered.map((number) => `${number} with ${atMost(chance(number))}`).join(", ");
  const tries = attempt === 1 ? "" : ` (in ${attempt} attempts)`;
  return `altered ones would have passed with a probability of at most: ${figures}${tries}`;
}

function drawn(statement: Statement, policy: Policy, digest: Digest, block: Digest): number[] {
  return challengeIndices(digest, block, statement.recordStart, statement.recordCount, policy.sampleSize);
}

function allRight(count: number): string {
  return `all ${count} outputs are what the registered circuit computes`;
}

/** Two digits, rounded up, so that nothing is claimed that does not hold. */
function atMost(probability: number): string {
  if (probability <= 0) return "0";
  const digits = 1 - Math.floor(Math.log10(probability));
  if (digits >= 300) return "1e-300";
  const scaled = probability * 10 ** digits;
  return short(Math.ceil(Math.round(scaled * 1e6) / 1e6) / 10 ** digits);
}

/** Two significant digits, as Python's `.2g` writes them. */
export function short(value: number): string {
  const [digits = "", power = "0"] = value.toExponential(1).split("e");
  const exponent = Number(power);
  if (value !== 0 && (exponent < -4 || exponent >= 2)) {
    const sign = exponent < 0 ? "-" : "+";
    return `${digits.replace(/\.0$/, "")}e${sign}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  return String(Number(value.toPrecision(2)));
}
