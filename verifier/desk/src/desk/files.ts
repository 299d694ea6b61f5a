/** Files that somebody gives: bounded, and told apart by what they hold, not by their names. */

import { type BenchReport, readBench } from "./bench";
import { type AttackReport, type LeakageCard, readAttacks, readCard } from "./leakage";
import { digestOf } from "./digest";
import type { Quorum } from "../verify";
import { readQuorum } from "../verify/accountability";
import { RexisError } from "../verify/errors";

/** As `MAX_CERTIFICATE_BYTES` of the protocol. */
export const MAX_BYTES = 256 << 20;
const MAX_REPORT_BYTES = 32 << 20;
const MAX_MANIFEST_BYTES = 1 << 16;
export const MAX_FILES = 256;

export type Given =
  | { kind: "certificate"; name: string; data: Uint8Array; digest: string }
  | { kind: "artefact"; name: string; data: Uint8Array; digest: string }
  | { kind: "quorum"; name: string; quorum: Quorum }
  | { kind: "bench"; name: string; report: BenchReport }
  | { kind: "card"; name: string; card: LeakageCard }
  | { kind: "attacks"; name: string; report: AttackReport };

/** Why a file was refused. */
export class Refused extends Error {}

/** Whatever is no report, no manifest and no binary file counts as a certificate: its form is for step 1 to judge. */
export function recognise(name: string, data: Uint8Array): Given {
  if (data.length > MAX_BYTES) throw new Refused(`${name} is larger than ${MAX_BYTES >> 20} MiB`);
  const digest = digestOf(data);
  if (name.startsWith("sha256-")) {
    if (name.slice("sha256-".length) !== digest.slice(2)) throw new Refused(`${name} does not have the digest that its name says`);
    return { kind: "artefact", name, data, digest };
  }
  if (isManifest(data)) return { kind: "quorum", name, quorum: quorumOf(data, name) };
  const format = /"format"\s*:\s*"(rexis-(?:bench-v1|leakage-card-v2|attacks-v1))"/.exec(head(data))?.[1];
  if (format === undefined) return { kind: "certificate", name, data, digest };
  if (data.length > MAX_REPORT_BYTES) throw new Refused(`${name} is larger than a report may be, ${MAX_REPORT_BYTES >> 20} MiB`);
  let document: unknown;
  try {
    document = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch {
    throw new Refused(`${name} is no JSON document`);
  }
  if (format === "rexis-bench-v1") return { kind: "bench", name, report: readBench(document, name) };
  if (format === "rexis-attacks-v1") return { kind: "attacks", name, report: readAttacks(document, name) };
  return { kind: "card", name, card: readCard(document, name) };
}

/** A manifest has no format; a certificate names one. */
function isManifest(data: Uint8Array): boolean {
  if (data.length > MAX_MANIFEST_BYTES) return false;
  const text = new TextDecoder().decode(data);
  return /"validatorQuorum"\s*:/.test(text) && !/"format"\s*:/.test(text);
}

function quorumOf(data: Uint8Array, name: string): Quorum {
  try {
    return readQuorum(data);
  } catch (error) {
    if (!(error instanceof RexisError)) throw error;
    throw new Refused(`${name} is no manifest of validators: ${error.field ? `${error.field}: ` : ""}${error.message}`);
  }
}

/** Reports name their format on top; a certificate is never taken for one, as it names its own. */
function head(data: Uint8Array): string {
  return new TextDecoder().decode(data.subarray(0, 400));
}

/** The files of a drop or a choice, one after the other. */
export async function* read(files: Iterable<File>): AsyncGenerator<Given | Refused> {
  let count = 0;
  for (const file of files) {
    if (++count > MAX_FILES) {
      yield new Refused(`only the first ${MAX_FILES} files were read`);
      return;
    }
    try {
      if (file.size > MAX_BYTES) throw new Refused(`${file.name} is larger than ${MAX_BYTES >> 20} MiB`);
      yield recognise(file.name, new Uint8Array(await file.arrayBuffer()));
    } catch (error) {
      yield error instanceof Refused ? error : new Refused(`${file.name} cannot be read`);
    }
  }
}
