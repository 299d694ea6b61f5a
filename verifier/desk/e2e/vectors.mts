/** The vectors of tests/vectors, as a person would bring them to the page. */

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL("../../../tests/vectors/", import.meta.url));

export type Kind = "certificates" | "training";

export interface Vector {
  name: string;
  files: File[];
  options: {
    offline: boolean;
    allow_development_chain?: boolean;
    allow_development_srs?: boolean;
    requester?: string;
    model_digest?: string;
    job_id?: string;
    /** A file in `artifacts` that the auditor was handed in the place of the right one. */
    srs?: string;
    /** The quorum that the auditor names. */
    quorum?: string;
  };
  /** The step that fails in `rexis verify`; null for a valid one. */
  step: number | null;
}

/** Bytes cross to the page as text. */
export interface File {
  name: string;
  base64: string;
}

export function vectorsOf(kind: Kind): Vector[] {
  return readdirSync(FOLDER + kind, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && readdirSync(`${FOLDER}${kind}/${entry.name}`).includes("case.json"))
    .map(({ name }) => {
      const folder = `${FOLDER}${kind}/${name}`;
      const files = readdirSync(folder).filter((file) => file.startsWith("certificate"));
      const { options, step } = JSON.parse(readFileSync(`${folder}/case.json`, "utf8")) as Pick<Vector, "options" | "step">;
      return { name, options, step, files: files.sort().map((file) => fileOf(`${folder}/${file}`, `${name}/${file}`)) };
    });
}

/** SRS files, by digest. */
export const artefacts = (): File[] =>
  readdirSync(`${FOLDER}certificates/artifacts`).map((name) => fileOf(`${FOLDER}certificates/artifacts/${name}`, name));

export const certificate = (name: string, kind: Kind = "certificates"): File => fileOf(`${FOLDER}${kind}/${name}/certificate.json`, `${name}.json`);

/** Of a quorum on the chain of certificates, as Python writes it. */
export const manifest = (quorum: string): File => fileOf(`${process.env.QUORUMS}/quorum-${quorum}.json`, `${quorum}.json`);

/** Of a job of 10,000 records, with 16 proofs; or the one that REXIS_DESK_LARGE names (`python -m bench.certificate --keep`). */
export const large = (): File => fileOf(process.env.REXIS_DESK_LARGE ?? `${FOLDER}large/tiny-10000-in-10000-sampled-16.json`, "large.json");

export function fileOf(path: string, name: string): File {
  return { name, base64: readFileSync(path).toString("base64") };
}
