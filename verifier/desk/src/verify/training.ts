/** Training plans and transcripts, as `rexis/protocol/training.py` and `transcript.py`. */

import { challengeIndices } from "./challenge";
import { type Address, concat, type Digest, fromHex, sha256, toHex, utf8, ZERO_DIGEST } from "./bytes";
import { RexisError } from "./errors";
import { byCodePoints, canonical } from "./json";
import { merkleRoot } from "./merkle";
import {
  digest,
  flag,
  hex,
  integer,
  list,
  object,
  oneOf,
  positive,
  type Read,
  refuse,
  text,
  uint32,
  uint64,
} from "./schema";
import { requireSigner } from "./signing";
import { type Of, Statement } from "./statement";
import { AddressMember, Bytes32, type Domain, signedDigest, struct, Uint32, Uint64 } from "./typedData";

const BILLION = 1e9;
const MAX_STEPS = 1 << 24;
const MAX_SEGMENTS = 1 << 12;
const MAX_TENSORS = 1 << 12;
const LOSS_BYTES = 4;
const CHECKPOINT_DOMAIN = utf8("rexis.checkpoint.v1\0");
const POWERS = ["permute", "sign", "scale", "mix", "plane"] as const;

const parts = integer(0, BILLION);
const size = integer(1, 2 ** 32 - 1);

const readOptimiser = object(
  {
    kind: oneOf("sgd", "adam", "adamw"),
    learningRateE9: positive,
    momentumE9: parts,
    nesterov: flag,
    beta1E9: parts,
    beta2E9: parts,
    epsilonE12: uint64,
    weightDecayE9: uint64,
    clipNormE9: uint64,
  },
  (optimiser, path) => {
    const adaptive = optimiser.kind !== "sgd";
    if (adaptive && (optimiser.momentumE9 || optimiser.nesterov)) {
      refuse(path, `momentum and nesterov are sgd's, not ${optimiser.kind}'s`);
    }
    if (!adaptive && (optimiser.beta1E9 || optimiser.beta2E9 || optimiser.epsilonE12)) {
      refuse(path, "beta1, beta2 and epsilon are adam's, not sgd's");
    }
    if (adaptive && (optimiser.epsilonE12 === 0 || Math.max(optimiser.beta1E9, optimiser.beta2E9) >= BILLION)) {
      refuse(path, `${optimiser.kind} needs an epsilon above 0 and betas below 1`);
    }
    if (optimiser.nesterov && !optimiser.momentumE9) refuse(path, "nesterov needs momentum");
  },
);

/** How a model is trained; the signed request has its digest. */
export const readPlan = object(
  {
    format: oneOf("rexis-training-plan-v1"),
    loss: oneOf("cross-entropy", "squared-error", "binary-cross-entropy"),
    optimiser: readOptimiser,
    schedule: object({ kind: oneOf("constant", "linear", "cosine"), warmupSteps: uint32, finalE9: uint64 }),
    inputShape: list(size, { least: 1, most: 8 }),
    targetShape: list(size, { most: 8 }),
    steps: integer(1, MAX_STEPS),
    batchSize: integer(1, 1 << 20),
    checkpointInterval: size,
    orderSeed: digest,
    trainable: list(text({ least: 1, most: 512 }), { least: 1, most: MAX_TENSORS }),
    powers: list(oneOf(...POWERS), { most: POWERS.length }),
    allowInexact: flag,
  },
  (plan, path) => {
    for (const names of [plan.trainable, plan.powers] as (readonly string[])[]) {
      if (names.some((name, i) => i > 0 && byCodePoints(names[i - 1] ?? "", name) >= 0)) {
        refuse(path, "names are sorted and unique");
      }
    }
    if (segmentsOf(plan) > MAX_SEGMENTS) {
      refuse(path, `${segmentsOf(plan)} checkpoints, at most ${MAX_SEGMENTS} are allowed: use a longer interval`);
    }
    if (plan.schedule.warmupSteps > plan.steps) refuse(path, "warms up for longer than it trains");
    if (plan.schedule.finalE9 > plan.optimiser.learningRateE9) {
      refuse(path, "the last learning rate is larger than the largest");
    }
  },
);
export type TrainingPlan = Read<typeof readPlan>;

export const Checkpoint = struct("Checkpoint", {
  taskId: Bytes32,
  index: Uint32,
  step: Uint64,
  cursor: Uint64,
  stateRoot: Bytes32,
  lossesDigest: Bytes32,
  modelDigest: Bytes32,
  previous: Bytes32,
  worker: AddressMember,
});
export type Checkpoint = Of<typeof Checkpoint>;

const readSignedCheckpoint = object({
  checkpoint: Checkpoint.read,
  losses: (value, path) => {
    const found = hex(value, path);
    return found.length <= 2 + 2 * LOSS_BYTES * MAX_STEPS ? found : refuse(path, "should be shorter");
  },
  stateDigest: digest,
  signature: hex,
});
export type SignedCheckpoint = Read<typeof readSignedCheckpoint>;

const readPlatform = object({
  torch: text({ most: 64, pattern: /^[A-Za-z0-9.+_-]+$/ }),
  device: text({ most: 128, pattern: /^[A-Za-z0-9 .+_()/-]+$/ }),
  machine: text({ most: 128, pattern: /^[A-Za-z0-9 .+_()@/-]+$/ }),
  threads: uint32,
});

export const readTrainingEvidence = object({
  statement: Statement.read,
  signature: hex,
  transcript: list(readSignedCheckpoint, { least: 2, most: MAX_SEGMENTS + 1 }),
  platform: readPlatform,
  computeMs: uint64,
});
export type TrainingEvidence = Read<typeof readTrainingEvidence>;

/** SHA-256 of the plan's canonical JSON. */
export function planDigest(plan: TrainingPlan): Digest {
  return toHex(sha256(utf8(`${canonical(plan)}\n`)));
}

/** Stretches between two committed states; there is one state more. */
export function segmentsOf(plan: { steps: number; checkpointInterval: number }): number {
  return Math.ceil(plan.steps / plan.checkpointInterval);
}

/** A whole transcript: every checkpoint follows the one before as the plan says, and is signed; its root. */
export function checkTranscript(
  transcript: readonly SignedCheckpoint[],
  plan: TrainingPlan,
  task: Digest,
  domain: Domain,
): Digest {
  let previous: Checkpoint | null = null;
  for (const signed of transcript) {
    checkNext(signed, previous, plan, task, domain);
    previous = signed.checkpoint;
  }
  const wanted = segmentsOf(plan) + 1;
  if (transcript.length !== wanted) {
    throw new RexisError(`${transcript.length} checkpoints, the plan has ${wanted}`, { field: "transcript" });
  }
  return merkleRoot(transcript.map((signed) => concat(CHECKPOINT_DOMAIN, fromHex(Checkpoint.hash(signed.checkpoint)))));
}

/** From which checkpoint on each worker went on, the first one's first. */
export function handOvers(transcript: readonly SignedCheckpoint[]): { index: number; worker: Address }[] {
  return transcript
    .map((signed) => signed.checkpoint)
    .filter((checkpoint, i) => i === 0 || transcript[i - 1]?.checkpoint.worker !== checkpoint.worker)
    .map(({ index, worker }) => ({ index, worker }));
}

/** The segments to re-execute, ascending: segment i lies between checkpoints i and i + 1. */
export function challengedSegments(plan: TrainingPlan, statement: Digest, block: Digest, sample: number): number[] {
  return challengeIndices(statement, block, 0, segmentsOf(plan), sample);
}

function checkNext(
  signed: SignedCheckpoint,
  previous: Checkpoint | null,
  plan: TrainingPlan,
  task: Digest,
  domain: Domain,
): void {
  const here = signed.checkpoint;
  const segments = segmentsOf(plan);
  const stepOf = (index: number): number => Math.min(index * plan.checkpointInterval, plan.steps);
  const index = previous === null ? 0 : previous.index + 1;
  const step = stepOf(index);
  const taken = index ? step - stepOf(index - 1) : 0;
  const expected: [string, Digest | number, Digest | number][] = [
    ["taskId", here.taskId, task],
    ["index", here.index, index],
    ["step", here.step, step],
    ["cursor", here.cursor, step * plan.batchSize],
    ["previous", here.previous, previous === null ? ZERO_DIGEST : Checkpoint.hash(previous)],
  ];
  const fail = (field: string, message: string): never => {
    throw new RexisError(message, { field });
  };
  for (const [field, found, wanted] of expected) {
    if (found !== wanted) fail(`checkpoint.${field}`, `checkpoint ${index}: is ${found}, expected ${wanted}`);
  }
  if (index > segments) fail("checkpoint.index", `checkpoint ${index} lies beyond the last, ${segments}`);
  if ((here.modelDigest !== ZERO_DIGEST) !== (index === segments)) {
    fail("checkpoint.modelDigest", "the last checkpoint names its model, and no other does");
  }
  const losses = checkLosses(signed);
  if (losses !== taken) fail("losses", `checkpoint ${index}: ${losses} losses of ${taken} steps`);
  requireSigner(signedDigest(domain, Checkpoint, here), signed.signature, here.worker, `checkpoint ${index}`);
}

/** The losses are those that were signed, and finite; how many there are. */
function checkLosses(signed: SignedCheckpoint): number {
  const raw = fromHex(signed.losses);
  if (raw.length % LOSS_BYTES || toHex(sha256(raw)) !== signed.checkpoint.lossesDigest) {
    throw new RexisError("the losses are not those that were signed", { field: "losses" });
  }
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  for (let at = 0; at < raw.length; at += LOSS_BYTES) {
    if (!Number.isFinite(view.getFloat32(at, true)))
      throw new RexisError("a loss is NaN or infinite", { field: "losses" });
  }
  return raw.length / LOSS_BYTES;
}
