/** The shared vectors, and the options with which each is verified. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { httpNode, type Options, type Result } from "../src/verify";
import { readQuorum } from "../src/verify/accountability";
import { utf8 } from "../src/verify/bytes";

export const VECTORS = resolve(import.meta.dirname, "../../../tests/vectors");
const ARTIFACTS = join(VECTORS, "certificates/artifacts");

/** `case.json`, as far as it is read here. */
interface Case {
  options: {
    offline: boolean;
    allow_development_chain?: boolean;
    allow_development_srs?: boolean;
    requester?: string;
    model_digest?: string;
    srs?: string;
    quorum?: string;
  };
  step: number | null;
  match: string;
}

export interface Vector extends Case {
  name: string;
  documents: { name: string; data: Uint8Array }[];
}

/** All vectors of `certificates` or `training`. */
export function vectorsOf(kind: "certificates" | "training"): Vector[] {
  const folder = join(VECTORS, kind);
  return readdirSync(folder)
    .sort()
    .filter((name) => existsSync(join(folder, name, "case.json")))
    .map((name) => {
      const files = readdirSync(join(folder, name)).filter((file) => file.startsWith("certificate"));
      const sorted = files.sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
      const documents = sorted.map((file) => ({ name: file, data: bytesOf(join(folder, name, file)) }));
      return { ...(JSON.parse(readFileSync(join(folder, name, "case.json"), "utf8")) as Case), name, documents };
    });
}

export function bytesOf(path: string): Uint8Array {
  return new Uint8Array(readFileSync(path));
}

/** Python's verdict, and the step that fails. */
export function expectedOf({ name, step }: Vector): { result: Result; step: number | null } {
  if (name.endsWith("_undecided")) return { result: "undecided", step: null };
  return { result: step === null ? "valid" : "not valid", step };
}

/** What the case's auditor gives, without what a page cannot use; quorums' manifests by their names. */
export function optionsOf(vector: Vector, url: string, quorums: Record<string, string>): Options {
  const given = vector.options;
  const srs = srsOf(vector.documents[0]?.data ?? new Uint8Array(), given.srs);
  return {
    pins: {
      ...(given.requester !== undefined && { requester: given.requester }),
      ...(given.model_digest !== undefined && { model: given.model_digest }),
    },
    allowDevelopmentChain: given.allow_development_chain ?? false,
    allowDevelopmentSrs: given.allow_development_srs ?? false,
    ...(!given.offline && { node: httpNode(url) }),
    ...(srs && { srs }),
    ...(given.quorum !== undefined && { quorum: readQuorum(utf8(quorums[given.quorum] ?? "")) }),
  };
}

/** The SRS that a certificate names, or another one that the auditor was handed; if there is one. */
export function srsOf(certificate: Uint8Array, given?: string): Uint8Array | undefined {
  const named = /"srsDigest":"0x([0-9a-f]{64})"/.exec(new TextDecoder().decode(certificate))?.[1];
  const path = join(ARTIFACTS, given ?? `sha256-${named}`);
  return existsSync(path) ? bytesOf(path) : undefined;
}
