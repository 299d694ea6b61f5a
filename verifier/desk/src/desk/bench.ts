/** The report of `rexis bench` (`bench/costs/document.py`), as far as the page shows it. */

import { Field } from "./reading";

export interface BenchReport {
  name: string;
  command: string;
  smoke: boolean;
  began: string;
  seconds: number;
  processor: string;
  cores: number;
  memoryBytes: number;
  loadBefore: number;
  models: BenchModel[];
  anchors: { batch: number; gasPerTask: number }[];
  checks: { about: string; name: string; outcome: string; detail: string }[];
}

export interface BenchModel {
  name: string;
  modality: string;
  parameters: number;
  records: number;
  plain: number;
  encrypted: number;
  noCircuit: string | null;
  circuit: { logrows: number; segments: number; setup: number; prove: number; verify: number; proofBytes: number; evmGas: number | null; agreement: number } | null;
  tiers: BenchTier[];
}

export interface BenchTier {
  label: string;
  records: number;
  inference: number;
  overhead: number;
  verify: number;
  evidenceBytes: number;
  caught: number;
  basis: string;
}

const median = (field: Field): number => field.get("median").number();

export function readBench(document: unknown, name: string): BenchReport {
  const field = new Field(document, name);
  const machine = field.get("machine");
  return {
    name,
    command: field.get("command").text(),
    smoke: field.get("smoke").flag(),
    began: field.get("began").text(),
    seconds: field.get("seconds").number(),
    processor: machine.get("processor").text(),
    cores: machine.get("cores").number(),
    memoryBytes: machine.get("memoryBytes").number(),
    loadBefore: machine.get("loadBefore").number(),
    models: field.get("models").list(readModel),
    anchors:
      field.get("chain").maybe((chain) =>
        chain.get("anchors").list((each) => ({ batch: each.get("batch").number(), gasPerTask: each.get("gasPerTask").number() })),
      ) ?? [],
    checks: field.get("checks").list((each) => ({
      about: each.get("about").text(),
      name: each.get("name").text(),
      outcome: each.get("outcome").text(),
      detail: each.get("detail").text(),
    })),
  };
}

function readModel(field: Field): BenchModel {
  return {
    name: field.get("name").text(),
    modality: field.get("modality").text(),
    parameters: field.get("parameters").number(),
    records: field.get("records").number(),
    plain: median(field.get("plain")),
    encrypted: median(field.get("encrypted")),
    noCircuit: field.get("noCircuit").maybe((each) => each.text()),
    circuit: field.get("circuit").maybe((circuit) => ({
      logrows: circuit.get("logrows").number(),
      segments: circuit.get("segments").number(),
      setup: median(circuit.get("setup")),
      prove: median(circuit.get("prove")),
      verify: median(circuit.get("verify")),
      proofBytes: circuit.get("proofBytes").number(),
      evmGas: circuit.get("evmGas").maybe((each) => each.number()),
      agreement: circuit.get("agreement").number(),
    })),
    tiers: field.get("tiers").list(readTier),
  };
}

function readTier(field: Field): BenchTier {
  const sample = field.get("sample").maybe((each) => each.number());
  return {
    label: field.get("tier").text() + (sample === null ? "" : ` k=${sample}`),
    records: field.get("records").number(),
    inference: median(field.get("inference")),
    overhead: field.get("overheadS").number(),
    verify: median(field.get("verify")),
    evidenceBytes: field.get("evidenceBytes").number(),
    caught: field.get("caught").number(),
    basis: field.get("basis").text(),
  };
}
