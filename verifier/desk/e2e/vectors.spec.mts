/**
 * Vectors dropped into the page: its verdict is that of `rexis verify`, but for what no page can judge.
 *
 * All that fail before a proof is looked at, and by default some of the others, for proofs are what takes time; all with
 * `REXIS_EVERY_VECTOR=1`. vitest always gives all of them to the same library.
 */

import { expect, type Page, test } from "@playwright/test";
import { beyondThePage } from "../test/beyondThePage";
import { DESK, drop, type Verdict, verdicts } from "./desk.mts";
import { artefacts, type Kind, manifest, type Vector, vectorsOf } from "./vectors.mts";

/** The page finds files by their digests, so that it cannot be handed another one. */
const FILES_BY_DIGEST = new Map([["certificates/srs-file-swapped_fail", "valid"]]);
/** Dropped at once, and verified one after the other. */
const AT_ONCE = 20;

const PROOFS = 10;
const OF_EACH_STEP = process.env.REXIS_EVERY_VECTOR ? Infinity : 2;

test.describe.configure({ mode: "parallel" });

for (const [kind, part, parts] of [["certificates", 1, 2], ["certificates", 2, 2], ["training", 1, 1]] as const) {
  test(`vectors of ${kind}, part ${part} of ${parts}`, async ({ page }) => {
    test.setTimeout(600_000);
    await page.goto(DESK());
    await drop(page, ...artefacts());
    const wrong: string[] = [];
    const alone = vectorsOf(kind).filter(({ files }) => files.length === 1);
    expect(alone.length).toBeGreaterThan(60);
    for (const batch of batchesOf(chosen(alone).filter((_, at) => at % parts === part - 1))) {
      await choose(page, batch[0]!, kind);
      await drop(page, ...batch.flatMap(({ files }) => files));
      const found = await verdicts(page, batch.length);
      for (const vector of batch) {
        const { result, step, text } = found.get(vector.files[0]!.name)!;
        const expected = expectedOf(vector, kind);
        if (result !== expected.result || step !== expected.step) wrong.push(`${vector.name}: ${text}`);
      }
      await page.getByRole("button", { name: /^Remove/ }).first().click();
    }
    expect(wrong).toEqual([]);
  });
}

function chosen(vectors: Vector[]): Vector[] {
  const taken = new Map<number | null, number>();
  return vectors.filter(({ step }) => {
    const before = taken.get(step) ?? 0;
    taken.set(step, before + 1);
    return (step !== null && step < PROOFS) || before < OF_EACH_STEP;
  });
}

/** Those that an auditor would verify with the same choices, together. */
function batchesOf(vectors: Vector[]): Vector[][] {
  const alike = new Map<string, Vector[]>();
  for (const vector of vectors) {
    const { offline, allow_development_chain, allow_development_srs, job_id, model_digest, requester, quorum } = vector.options;
    const key = JSON.stringify([offline, allow_development_chain, allow_development_srs, job_id, model_digest, requester, quorum]);
    alike.set(key, [...(alike.get(key) ?? []), vector]);
  }
  return [...alike.values()].flatMap((group) => Array.from({ length: Math.ceil(group.length / AT_ONCE) }, (_, at) => group.slice(at * AT_ONCE, (at + 1) * AT_ONCE)));
}

function expectedOf({ name, step }: Vector, kind: Kind): Pick<Verdict, "result" | "step"> {
  const beyond = beyondThePage.get(`${kind}/${name}`) ?? FILES_BY_DIGEST.get(`${kind}/${name}`);
  if (beyond !== undefined) return { result: beyond, step: null };
  if (name.endsWith("_undecided")) return { result: "undecided", step: null };
  return { result: step === null ? "valid" : "not valid", step };
}

async function choose(page: Page, { options }: Vector, kind: Kind): Promise<void> {
  const node = kind === "certificates" ? process.env.CHAIN_OF_CERTIFICATES! : process.env.CHAIN_OF_TRAINING!;
  await page.getByLabel("A development chain").setChecked(options.allow_development_chain ?? false);
  await page.getByLabel("A development SRS").setChecked(options.allow_development_srs ?? false);
  await page.locator("#node").fill(options.offline ? "" : node);
  await page.locator("#pin-job").fill(options.job_id ?? "");
  await page.locator("#pin-model").fill(options.model_digest ?? "");
  await page.locator("#pin-requester").fill(options.requester ?? "");
  const forget = page.getByRole("button", { name: "Name no validators" });
  if (options.quorum !== undefined) await drop(page, manifest(options.quorum));
  else if (await forget.isVisible()) await forget.click();
}
