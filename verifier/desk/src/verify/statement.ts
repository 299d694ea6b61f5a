/** Policies, circuits, job requests and statements: what is signed. As `policy.py`, `circuit.py`, `statement.py`. */

import { bigEndian, type Digest, fromHex, sha256, toHex, utf8, ZERO_DIGEST } from "./bytes";
import { integer, positive, refuse } from "./schema";
import {
  AddressMember,
  Bool,
  Bytes32,
  type Domain,
  enumeration,
  type Member,
  narrowed,
  signedDigest,
  struct,
  Uint16,
  Uint32,
  Uint64,
  Uint8,
} from "./typedData";

export const MAX_SHARD = 1 << 20;
/** Slots of the ValidatorQuorum contract. */
export const MAX_VALIDATORS = 256;
const STATEMENT_VERSION = 1;
const TASK_DOMAIN = utf8("rexis.task.v1\0");

export type Of<M> = M extends Member<infer T> ? T : never;

export const Tier = enumeration({ commit: 1, sampled: 2, zk: 3 });
export type Tier = Of<typeof Tier>;
export const Rung = enumeration({ "ee-outsourced": 1, "ee-private-weights": 2, "zk-onsite": 3 });
export type Rung = Of<typeof Rung>;
export const Visibility = enumeration({ none: 0, public: 1, hashed: 2 });
export const Kind = enumeration({ evaluation: 1, training: 2 });
export type Kind = Of<typeof Kind>;
const Positive = narrowed(Uint64, positive);

export const Policy = struct(
  "Policy",
  {
    tier: Tier,
    sampleSize: Uint32,
    shardSize: narrowed(Uint32, integer(1, MAX_SHARD)),
    maxAttempts: narrowed(Uint32, integer(1, 100)),
    absToleranceE9: Uint64,
    relToleranceE9: Uint64,
    rung: Rung,
    validators: narrowed(Uint32, integer(0, MAX_VALIDATORS)),
    certifyOnChain: Bool,
  },
  (policy, path) => {
    if (policy.tier === "sampled" && policy.sampleSize < 1) refuse(path, "tier sampled needs sampleSize of at least 1");
    if (policy.tier === "zk" && policy.sampleSize !== 0)
      refuse(path, "tier zk proves every record: sampleSize must be 0");
    if (policy.certifyOnChain && policy.tier !== "zk") refuse(path, "certifyOnChain needs tier zk");
    if (policy.rung === "zk-onsite" && policy.tier === "commit") {
      refuse(path, "rung zk-onsite rests on proofs: it needs tier sampled or zk");
    }
    if (policy.rung === "zk-onsite" && policy.certifyOnChain) {
      refuse(path, "the Certifier contract takes public inputs only: rung zk-onsite cannot be certified on chain");
    }
    if (policy.validators && policy.tier === "commit" && policy.sampleSize < 1) {
      refuse(path, "validators run opened records again: tier commit needs sampleSize of at least 1");
    }
  },
);
export type Policy = Of<typeof Policy>;

export const Circuit = struct(
  "Circuit",
  {
    vkDigest: Bytes32,
    vkaDigest: Bytes32,
    srsDigest: Bytes32,
    settingsDigest: Bytes32,
    visibility: Visibility,
    inputScale: Uint8,
    outputScale: Uint8,
    inputLength: Uint32,
    outputLength: Uint32,
  },
  (circuit, path) => {
    if (circuit.visibility === "none" && !isNone(circuit)) {
      refuse(path, "visibility none needs every field of the circuit to be zero");
    }
    if (circuit.visibility !== "none" && (circuit.inputLength === 0 || circuit.outputLength === 0)) {
      refuse(path, "a circuit has at least one input and one output");
    }
  },
);
export type Circuit = Of<typeof Circuit>;

export const NO_CIRCUIT: Circuit = {
  vkDigest: ZERO_DIGEST,
  vkaDigest: ZERO_DIGEST,
  srsDigest: ZERO_DIGEST,
  settingsDigest: ZERO_DIGEST,
  visibility: "none",
  inputScale: 0,
  outputScale: 0,
  inputLength: 0,
  outputLength: 0,
};

export function isNone(circuit: Circuit): boolean {
  return (Object.keys(NO_CIRCUIT) as (keyof Circuit)[]).every((name) => circuit[name] === NO_CIRCUIT[name]);
}

const requestMembers = {
  kind: Kind,
  modelDigest: Bytes32,
  keyEpoch: Positive,
  circuit: Circuit,
  datasetDigest: Bytes32,
  inputRoot: Bytes32,
  inputSize: Positive,
  recordStart: Uint64,
  recordCount: Positive,
  policy: Policy,
  requester: AddressMember,
  coordinator: AddressMember,
  nonce: Bytes32,
};

/** What a requester signs; its EIP-712 digest is the job id. */
export const JobRequest = struct("JobRequest", requestMembers, checkRequest);
export type JobRequest = { readonly [K in keyof typeof requestMembers]: Of<(typeof requestMembers)[K]> };

/** What a requester signs for a training: a job over a whole dataset, with a plan and without a circuit. */
export const TrainingRequest = struct(
  "TrainingRequest",
  { ...requestMembers, planDigest: Bytes32 },
  (request, path) => {
    checkRequest(request, path);
    const { policy } = request;
    if (request.kind !== "training") refuse(path, "a request with planDigest is of kind training");
    if (policy.tier === "zk") refuse(path, "training has tiers commit and sampled");
    if (policy.rung === "zk-onsite") refuse(path, "training has no circuit: rung zk-onsite is for evaluations");
    if (Math.max(policy.relToleranceE9, policy.absToleranceE9) >= 1e9) {
      refuse(path, "a tolerance of 1 or more would pass a training that took no step");
    }
    if (request.recordStart !== 0 || request.recordCount !== request.inputSize) {
      refuse(path, "training is over the whole dataset: recordStart 0, recordCount equal to inputSize");
    }
  },
);
export type TrainingRequest = Of<typeof TrainingRequest>;
export type AnyRequest = JobRequest | TrainingRequest;

/** What is claimed about one task: this model on these inputs gave these outputs. */
export const Statement = struct(
  "Statement",
  {
    version: Uint16,
    jobId: Bytes32,
    taskId: Bytes32,
    kind: Kind,
    modelDigest: Bytes32,
    keyEpoch: Positive,
    circuit: Circuit,
    inputRoot: Bytes32,
    inputSize: Positive,
    outputRoot: Bytes32,
    recordStart: Uint64,
    recordCount: Positive,
    tier: Tier,
    policyDigest: Bytes32,
    worker: AddressMember,
    nonce: Bytes32,
  },
  (statement, path) => {
    if (statement.version !== STATEMENT_VERSION) {
      refuse(path, `this reader knows statement version ${STATEMENT_VERSION} only`);
    }
    checkRange(statement, path);
    checkCircuit(statement.kind, statement.tier, statement.circuit, path);
  },
);
export type Statement = Of<typeof Statement>;

/** EIP-712 digest of a request. */
export function jobId(request: AnyRequest, domain: Domain): Digest {
  return "planDigest" in request
    ? signedDigest(domain, TrainingRequest, request)
    : signedDigest(domain, JobRequest, request);
}

export function statementDigest(statement: Statement, domain: Domain): Digest {
  return signedDigest(domain, Statement, statement);
}

/** How many tasks a job has. */
export function shardCount(request: JobRequest): number {
  return Math.ceil(request.recordCount / request.policy.shardSize);
}

/** The (start, count) of each task: contiguous, in order, covering the job exactly. */
export function shards(request: JobRequest): (readonly [number, number])[] {
  const end = request.recordStart + request.recordCount;
  const size = request.policy.shardSize;
  return Array.from({ length: shardCount(request) }, (_, index) => {
    const start = request.recordStart + index * size;
    return [start, Math.min(size, end - start)] as const;
  });
}

/** Id of the task that covers records `start … start+count-1` of a job. */
export function taskId(job: Digest, start: number, count: number): Digest {
  return toHex(sha256(TASK_DOMAIN, fromHex(job), bigEndian(start, 8), bigEndian(count, 8)));
}

/**
 * The statement that a worker makes about records of a job; all but output, worker and nonce follow from the request.
 */
export function statementFor(
  request: AnyRequest,
  domain: Domain,
  start: number,
  count: number,
  own: { outputRoot: Digest; worker: string; nonce: Digest },
): Statement {
  const job = jobId(request, domain);
  return {
    version: STATEMENT_VERSION,
    jobId: job,
    taskId: taskId(job, start, count),
    kind: request.kind,
    modelDigest: request.modelDigest,
    keyEpoch: request.keyEpoch,
    circuit: request.circuit,
    inputRoot: request.inputRoot,
    inputSize: request.inputSize,
    outputRoot: own.outputRoot,
    recordStart: start,
    recordCount: count,
    tier: request.policy.tier,
    policyDigest: Policy.hash(request.policy),
    worker: own.worker,
    nonce: own.nonce,
  };
}

function checkRequest(request: JobRequest, path: string): void {
  checkRange(request, path);
  checkCircuit(request.kind, request.policy.tier, request.circuit, path);
  if ((request.policy.rung === "zk-onsite") !== (request.circuit.visibility === "hashed")) {
    refuse(path, "rung zk-onsite and a circuit with hashed inputs go together");
  }
}

function checkRange(of: { recordStart: number; recordCount: number; inputSize: number }, path: string): void {
  if (of.recordStart + of.recordCount > of.inputSize) refuse(path, "recordStart + recordCount lies beyond inputSize");
}

function checkCircuit(kind: Kind, tier: Tier, circuit: Circuit, path: string): void {
  if ((tier === "commit" || kind === "training") !== isNone(circuit)) {
    refuse(path, "tier commit and training have no circuit; tiers sampled and zk of evaluations need one");
  }
}
