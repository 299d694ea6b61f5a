/** The certificate of either kind, as `rexis/protocol/certificate.py`, `training_certificate.py` and `evidence.py`. */

import { type Digest, sha256, toHex, utf8 } from "./bytes";
import { RexisError } from "./errors";
import { canonical, decode, type Json, parseJson } from "./json";
import { MAX_PATH } from "./merkle";
import { boundaryCount, readOpening } from "./records";
import { readSignedClaim } from "./rung";
import {
  address,
  base64,
  digest,
  hex,
  integer,
  isObject,
  list,
  nullable,
  object,
  oneOf,
  optional,
  positive,
  type Read,
  refuse,
  text,
  uint64,
} from "./schema";
import { JobRequest, MAX_SHARD, Statement, TrainingRequest } from "./statement";
import { readPlan, readTrainingEvidence } from "./training";
import { readDomain } from "./typedData";

export const MAX_CERTIFICATE_BYTES = 160 << 20;
const MAX_TASKS = 1 << 15;
const MAX_VKA_WORDS = 1 << 14;
export const MAX_SEGMENTS = 64;
const SEAL_TEXT = "rexis certificate seal v1\n";

const readBoundary = (value: Json | undefined, path: string): string => {
  const found = hex(value, path);
  boundaryCount(found);
  return found;
};

const readProof = object({
  index: uint64,
  proofs: list(
    (value, path) => {
      const found = hex(value, path);
      return found === "0x" ? refuse(path, "should have at least 1 byte") : found;
    },
    { least: 1, most: MAX_SEGMENTS },
  ),
  boundaries: list(readBoundary, { most: MAX_SEGMENTS - 1 }),
});
export type RecordProof = Read<typeof readProof>;

const readEvidence = object({
  statement: Statement.read,
  signature: hex,
  outputsDigest: digest,
  openings: list(readOpening, { most: MAX_SHARD }),
  proofs: list(readProof, { most: MAX_SHARD }),
  measured: object({
    maxAbsErrorE9: uint64,
    rmsErrorE9: uint64,
    computeMs: uint64,
    proveMs: uint64,
    provider: text({ most: 64, pattern: /^[A-Za-z0-9]+$/ }),
  }),
});
export type Evidence = Read<typeof readEvidence>;

const readCommitment = object({
  attempt: integer(1, 2 ** 32 - 1),
  blockNumber: uint64,
  challengeBlockHash: digest,
  transaction: digest,
});

const readAnchor = object({
  anchorId: uint64,
  root: digest,
  size: positive,
  leafIndex: uint64,
  path: list(digest, { most: MAX_PATH }),
  blockNumber: uint64,
  transaction: digest,
});

const readTask = object({
  evidence: readEvidence,
  commitment: nullable(readCommitment),
  openingBlockHash: nullable(digest),
  anchor: readAnchor,
  certified: list(digest, { most: MAX_SHARD }),
});
export type CertifiedTask = Read<typeof readTask>;

const readMaterial = object({
  settings: text({ most: 8 << 20 }),
  vk: base64,
  vka: list(digest, { most: MAX_VKA_WORDS }),
});
export type CircuitMaterial = Read<typeof readMaterial>;

const sealed = {
  domain: readDomain,
  contracts: object({ modelRegistry: address, certifier: address }),
  requestSignature: hex,
  development: (value: Json | undefined, path: string) => {
    const found = list(oneOf("chain", "srs"), { most: 2 })(value, path);
    if (found.length === 2 && (found[0] !== "chain" || found[1] !== "srs"))
      refuse(path, "development markers are sorted and unique");
    return found;
  },
  issuedAt: readTime,
  rungClaim: optional(readSignedClaim),
  seal: hex,
};

const readEvaluation = object({
  ...sealed,
  format: oneOf("rexis-certificate-v1"),
  request: JobRequest.read,
  circuit: nullable(readMaterial),
  tasks: list(readTask, { least: 1, most: MAX_TASKS }),
});
export type EvaluationCertificate = Read<typeof readEvaluation>;

const readTraining = object({
  ...sealed,
  format: oneOf("rexis-training-certificate-v1"),
  request: TrainingRequest.read,
  plan: readPlan,
  evidence: readTrainingEvidence,
  commitment: nullable(readCommitment),
  anchor: readAnchor,
});
export type TrainingCertificate = Read<typeof readTraining>;
export type Certificate = EvaluationCertificate | TrainingCertificate;

/** A certificate, and the text that its coordinator signed: a domain line and the document's digest. */
export interface Parsed {
  certificate: Certificate;
  sealText: string;
}

/** Where one task's statement stands on chain. */
export interface Place {
  /** JSON path of the task within its certificate, with a dot at its end; empty if the certificate has but one. */
  where: string;
  statement: Statement;
  commitment: Read<typeof readCommitment> | null;
  openingBlockHash: Digest | null;
  anchor: Read<typeof readAnchor>;
  certified: readonly Digest[];
}

/** Read a certificate of either kind; refuses any bytes that are not the canonical form of what they say. */
export function parseCertificate(data: Uint8Array): Parsed {
  if (data.length > MAX_CERTIFICATE_BYTES) {
    throw new RexisError(`document of ${data.length} bytes, over the limit of ${MAX_CERTIFICATE_BYTES}`);
  }
  const written = decode(data);
  const document = parseJson(written);
  if (!isObject(document)) refuse("Certificate", "should be an object");
  const read = document["format"] === "rexis-training-certificate-v1" ? readTraining : readEvaluation;
  const certificate: Certificate = read(document, "");
  if (`${canonical(document)}\n` !== written) {
    throw new RexisError("certificate is not in canonical form", {
      hint: "was the file edited or reformatted? fetch it again",
    });
  }
  const { seal: _, ...body } = document;
  const digestOfBody = toHex(sha256(utf8(`${canonical(body)}\n`)));
  return { certificate, sealText: SEAL_TEXT + digestOfBody };
}

export function isTraining(certificate: Certificate): certificate is TrainingCertificate {
  return certificate.format === "rexis-training-certificate-v1";
}

/** Each task's statement with its places on chain, in order. */
export function placesOf(certificate: Certificate): Place[] {
  if (isTraining(certificate)) {
    const { evidence, commitment, anchor } = certificate;
    return [{ where: "", statement: evidence.statement, commitment, openingBlockHash: null, anchor, certified: [] }];
  }
  return certificate.tasks.map((task, position) => ({
    where: `tasks.${position}.`,
    statement: task.evidence.statement,
    commitment: task.commitment,
    openingBlockHash: task.openingBlockHash,
    anchor: task.anchor,
    certified: task.certified,
  }));
}

const TIME = /^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z$/;

function readTime(value: Json | undefined, path: string): string {
  const found = text({ most: 20, pattern: TIME })(value, path);
  const time = new Date(found);
  const again = Number.isNaN(time.getTime()) ? "" : time.toISOString();
  if (again.replace(".000Z", "Z") !== found || found.startsWith("0000")) refuse(path, "no such day or time");
  return found;
}
