/** Every certificate vector gets Python's verdict in the page, but for those that a page cannot judge. */

import { describe, expect, inject, test } from "vitest";
import { verifyCertificate, verifyLineage } from "../src/verify";
import { beyondThePage } from "./beyondThePage";
import { expectedOf, optionsOf, srsOf, type Vector, vectorsOf } from "./vectors";

const ALL = { certificates: vectorsOf("certificates"), training: vectorsOf("training") };

interface Found {
  result: string;
  step: number | null;
  detail: string;
}

async function judge(vector: Vector, url: string): Promise<Found> {
  const options = optionsOf(vector, url, inject("quorums"));
  const [only, ...others] = vector.documents;
  if (!only) throw new Error(`${vector.name} has no certificate`);
  const report = others.length
    ? await verifyLineage(
        vector.documents.map((each) => ({ ...each, ...withSrs(each.data) })),
        options,
      )
    : await verifyCertificate(only.data, options);
  const failed = report.steps.find((step) => step.status === "failed");
  return { result: report.result, step: failed?.number ?? null, detail: failed?.detail ?? "" };
}

function withSrs(data: Uint8Array): { srs?: Uint8Array } {
  const srs = srsOf(data);
  return srs ? { srs } : {};
}

for (const kind of ["certificates", "training"] as const) {
  describe(kind, () => {
    test.each(ALL[kind].map((vector) => [vector.name, vector] as const))("%s", async (name, vector) => {
      const { detail, ...found } = await judge(vector, inject("chains")[kind]);
      const python = expectedOf(vector);
      const beyond = beyondThePage.get(`${kind}/${name}`);
      if (beyond) {
        expect(found).toEqual({ result: beyond, step: null });
        expect(found, "is no longer beyond the page").not.toEqual(python);
      } else {
        expect(found, detail).toEqual(python);
      }
    });
  });
}

test("there are vectors, and what is listed as beyond the page is among them", () => {
  expect(ALL.certificates.length).toBeGreaterThan(200);
  expect(ALL.training.length).toBeGreaterThan(70);
  const names = (["certificates", "training"] as const).flatMap((kind) =>
    ALL[kind].map(({ name }) => `${kind}/${name}`),
  );
  expect([...beyondThePage.keys()].filter((name) => !names.includes(name))).toEqual([]);
});
