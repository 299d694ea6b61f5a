/** What a certificate says of itself, read in the worker, so that the page handles no object of a stranger's. */

import { type Certificate, isTraining, placesOf, type TrainingCertificate, type Place as Stood } from "../verify/certificate";
import { trainedModel } from "../verify/lineage";
import { jobId, isNone, statementDigest } from "../verify/statement";
import type { Domain } from "../verify/typedData";

export type Kind = "evaluation" | "training";

export interface Facts {
  kind: Kind;
  chainId: number;
  log: string;
  registry: string;
  certifier: string;
  jobId: string;
  requester: string;
  coordinator: string;
  model: string;
  keyEpoch: number;
  dataset: string;
  inputRoot: string;
  inputSize: number;
  recordStart: number;
  recordCount: number;
  tier: string;
  rung: string;
  /** Null where nothing is proved. */
  srs: string | null;
  segmented: boolean;
  development: readonly string[];
  issuedAt: string;
  training: Training | null;
  /** The first {@link MAX_PLACES} tasks. */
  places: Place[];
  tasks: number;
}

/** What a training made, and how. */
export interface Training {
  made: string;
  transcript: string;
  steps: number;
  segments: number;
  batch: number;
  optimiser: string;
}

/** One task's statement on chain. */
export interface Place {
  start: number;
  count: number;
  worker: string;
  /** The leaf: digest of the task's statement. */
  leaf: string;
  anchor: Stood["anchor"];
  commitment: Stood["commitment"];
  certified: readonly string[];
}

/** More tasks than a person looks at. All of them are verified. */
export const MAX_PLACES = 500;

export function factsOf(certificate: Certificate): Facts {
  const { domain, contracts, request, development, issuedAt } = certificate;
  const places = placesOf(certificate);
  return {
    kind: isTraining(certificate) ? "training" : "evaluation",
    chainId: domain.chainId,
    log: domain.verifyingContract,
    registry: contracts.modelRegistry,
    certifier: contracts.certifier,
    jobId: jobId(request, domain),
    requester: request.requester,
    coordinator: request.coordinator,
    model: request.modelDigest,
    keyEpoch: request.keyEpoch,
    dataset: request.datasetDigest,
    inputRoot: request.inputRoot,
    inputSize: request.inputSize,
    recordStart: request.recordStart,
    recordCount: request.recordCount,
    tier: request.policy.tier,
    rung: request.policy.rung,
    srs: isNone(request.circuit) ? null : request.circuit.srsDigest,
    segmented: !isTraining(certificate) && certificate.tasks.some(({ evidence }) => evidence.proofs.some(({ proofs }) => proofs.length > 1)),
    development,
    issuedAt,
    training: isTraining(certificate) ? trainingOf(certificate) : null,
    places: places.slice(0, MAX_PLACES).map((place) => placeOf(place, domain)),
    tasks: places.length,
  };
}

function trainingOf(certificate: TrainingCertificate): Training {
  const { plan, evidence } = certificate;
  return {
    made: trainedModel(certificate),
    transcript: evidence.statement.outputRoot,
    steps: plan.steps,
    segments: Math.ceil(plan.steps / plan.checkpointInterval),
    batch: plan.batchSize,
    optimiser: plan.optimiser.kind,
  };
}

function placeOf({ statement, anchor, commitment, certified }: Stood, domain: Domain): Place {
  return {
    start: statement.recordStart,
    count: statement.recordCount,
    worker: statement.worker,
    leaf: statementDigest(statement, domain),
    anchor,
    commitment,
    certified,
  };
}
