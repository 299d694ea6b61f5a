/** The log as one table: what certificates say of their places on chain, and what a node's events add. */

import type { Entry } from "./chain-log";
import { short } from "./digest";
import type { Facts } from "./facts";

export interface Row {
  block: number;
  what: string;
  transaction: string;
  /** Empty where neither says. */
  job: string;
  model: string;
  worker: string;
  dataset: string;
  detail: string;
  source: "certificate" | "chain" | "both";
}

export const SOUGHT = ["job", "model", "worker", "dataset"] as const;
export type Sought = (typeof SOUGHT)[number];

const WHAT: Record<string, string> = {
  ModelRegistered: "model registered",
  ModelRevoked: "model revoked",
  OwnerProposed: "next owner proposed",
  ProposalWithdrawn: "proposed owner withdrawn",
  OwnershipTransferred: "model handed over",
  Committed: "statement committed",
  Anchored: "batch anchored",
  RecordCertified: "record certified",
  StatementCertified: "statement certified",
};

/** Newest first. Rows of the same thing, told by a certificate and by the chain, are one. */
export function rowsOf(certificates: readonly Facts[], entries: readonly Entry[]): Row[] {
  const told = certificates.flatMap(rowsOfCertificate);
  const chain = entries.map(rowOfEntry);
  const byTransaction = new Map<string, Row[]>();
  for (const row of told) byTransaction.set(row.transaction, [...(byTransaction.get(row.transaction) ?? []), row]);
  const matched = new Set<Row>();
  const joined = chain.flatMap((row) => {
    const same = (byTransaction.get(row.transaction) ?? []).filter(({ what }) => what === row.what);
    for (const each of same) matched.add(each);
    return same.length === 0 ? [row] : same.map((each): Row => ({ ...each, block: row.block, source: "both", detail: row.detail }));
  });
  return [...joined, ...told.filter((row) => !matched.has(row))].sort((one, other) => other.block - one.block);
}

/** Those that name what is sought, by its first digits. */
export function filtered(rows: readonly Row[], sought: Readonly<Record<Sought, string>>): Row[] {
  return rows.filter((row) => SOUGHT.every((name) => row[name].toLowerCase().startsWith(sought[name].trim().toLowerCase())));
}

function rowsOfCertificate(facts: Facts): Row[] {
  const about = { job: facts.jobId, model: facts.model, dataset: facts.dataset, source: "certificate" as const };
  return facts.places.flatMap(({ start, count, worker, anchor, commitment, certified }): Row[] => {
    const records = `records ${start}–${start + count - 1}`;
    const here = { ...about, worker };
    return [
      ...(commitment ? [{ ...here, block: commitment.blockNumber, what: WHAT.Committed!, transaction: commitment.transaction, detail: `${records}, attempt ${commitment.attempt}` }] : []),
      { ...here, block: anchor.blockNumber, what: WHAT.Anchored!, transaction: anchor.transaction, detail: `${records}, leaf ${anchor.leafIndex} of ${anchor.size}` },
      ...certified.map((transaction) => ({ ...here, block: anchor.blockNumber, what: WHAT.RecordCertified!, transaction, detail: records })),
    ];
  });
}

function rowOfEntry({ name, block, transaction, values }: Entry): Row {
  const { modelDigest = "", jobId = "" } = values;
  return { block, what: WHAT[name] ?? name.replace(/(?<=.)[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`).toLowerCase(), transaction, job: jobId, model: modelDigest, worker: "", dataset: "", detail: detailOf(name, values), source: "chain" };
}

function detailOf(name: string, values: Record<string, string>): string {
  switch (name) {
    case "ModelRegistered":
    case "ModelRevoked":
      return `epoch ${values.keyEpoch}, by ${short(values.owner ?? "")}`;
    case "OwnerProposed":
    case "ProposalWithdrawn":
      return `${short(values.proposed ?? "")}, by ${short(values.owner ?? "")}`;
    case "OwnershipTransferred":
      return `to ${short(values.newOwner ?? "")}, from ${short(values.previousOwner ?? "")}`;
    case "Committed":
      return `attempt ${values.attempt}, by ${short(values.submitter ?? "")}`;
    case "Anchored":
      return `number ${values.anchorId}, ${values.size} statements, by ${short(values.submitter ?? "")}`;
    case "RecordCertified":
      return `record ${values.recordIndex}, by ${short(values.submitter ?? "")}`;
    case "StatementCertified":
      return `${values.recordCount} records`;
    default:
      return Object.entries(values)
        .filter(([name]) => name !== "modelDigest" && name !== "jobId")
        .map(([name, value]) => `${name} ${short(value)}`)
        .join(", ");
  }
}
