/**
 * Certificates that were changed at random, some of them signed again by whoever colludes: Python's verdict on each.
 */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, inject, test } from "vitest";
import { httpNode, verifyCertificate } from "../src/verify";
import { readQuorum } from "../src/verify/accountability";
import { utf8 } from "../src/verify/bytes";
import { bytesOf, srsOf } from "./vectors";

interface Mutant {
  file: string;
  original: string;
  change: string;
  result: string;
  steps: [number, string, string, string][];
  failure: string;
  shows: string[];
}

/** Of these the auditor names a quorum, as in `tests/desk/oracle.py`. */
const NAMED = ["certificates/validators-found-valid", "training/handed-over"];
const quorum = readQuorum(utf8(inject("quorums")["validators"] ?? ""));

const folder = inject("folder");
while (!existsSync(join(folder, "mutants.json"))) await sleep(100);
const mutants = JSON.parse(readFileSync(join(folder, "mutants.json"), "utf8")) as Mutant[];

test.each(mutants.map((mutant) => [`${mutant.original}: ${mutant.change}`, mutant] as const))(
  "%s",
  async (_, mutant) => {
    const data = bytesOf(join(folder, mutant.file));
    const srs = srsOf(data);
    const chains = inject("chains");
    const report = await verifyCertificate(data, {
      allowDevelopmentChain: true,
      allowDevelopmentSrs: true,
      node: httpNode(mutant.original.startsWith("training") ? chains.training : chains.certificates),
      ...(srs && { srs }),
      ...(NAMED.includes(mutant.original) && { quorum }),
    });
    const failure = report.steps.find((step) => step.status === "failed")?.detail;
    // What a page says of step 5 beyond Python. Where Python has no SRS, it takes less of steps 5 and 10 than a page.
    const python = mutant.steps.filter(([number, , status]) => status !== "unchecked" || ![5, 10].includes(number));
    const left = python.length < mutant.steps.length ? [5, 10] : [];
    // Of these a page tells something else, since it finds something else.
    const detail = (number: number, status: string, told: string): string =>
      status === "ok" && number !== 5 && number !== 10 ? told : "";
    const steps = report.steps.filter(({ name, number }) => !name.startsWith("circuit, ") && !left.includes(number));
    expect(
      {
        result: report.result,
        steps: steps.map((each) => [
          each.number,
          each.name,
          each.status,
          detail(each.number, each.status, each.detail),
        ]),
      },
      `${failure} / Python: ${mutant.failure}`,
    ).toEqual({
      result: mutant.result,
      steps: python.map(([number, name, status, told]) => [number, name, status, detail(number, status, told)]),
    });
    // Of trainings Python says what taking segments again would show.
    if (report.kind === "evaluation") expect(report.shows).toEqual(mutant.shows);
  },
);

test("the changes reach many steps", () => {
  expect(mutants.length).toBeGreaterThan(200);
  const failed = mutants.map(({ steps }) => steps.find(([, , status]) => status === "failed")?.[0]);
  expect(new Set(failed).size).toBeGreaterThan(12);
});
