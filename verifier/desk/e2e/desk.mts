/** What a person does at the desk. */

import { expect, type Page } from "@playwright/test";
import { certificate, type File } from "./vectors.mts";

export const DESK = (): string => process.env.DESK_URL!;

/** Drop files on the page. */
export async function drop(page: Page, ...files: File[]): Promise<void> {
  await page.evaluate((given) => {
    const held = new DataTransfer();
    for (const { name, base64 } of given) held.items.add(new File([Uint8Array.from(atob(base64), (each) => each.charCodeAt(0))], name));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true }));
  }, files);
}

export interface Verdict {
  result: string;
  step: number | null;
  text: string;
}

/** The verdict on the certificate of this name, once there is one. */
export async function verdict(page: Page, name: string): Promise<Verdict> {
  const article = page.getByRole("article", { name, exact: true }).first();
  await expect(article).toHaveAttribute("data-result", FINAL, { timeout: 60_000 });
  return verdictOf((await article.getAttribute("data-result"))!, await article.locator("> .verdict").innerText());
}

/** All verdicts by name, once there are as many. */
export async function verdicts(page: Page, count: number): Promise<Map<string, Verdict>> {
  const articles = page.getByRole("article");
  await expect.poll(() => articles.evaluateAll((all) => all.map((each) => each.dataset.result ?? "")), { timeout: 300_000 }).toEqual(Array(count).fill(expect.stringMatching(FINAL)));
  const found = await articles.evaluateAll((all) =>
    all.map((each) => [each.querySelector("h2")!.innerText, each.dataset.result!, each.querySelector<HTMLElement>(".verdict")!.innerText] as const),
  );
  return new Map(found.map(([name, result, text]) => [name, verdictOf(result, text)]));
}

const FINAL = /^(valid|not valid|undecided|crashed)$/;

function verdictOf(result: string, text: string): Verdict {
  const failed = /Step (\d+) /.exec(text)?.[1];
  return { result, step: failed === undefined ? null : Number(failed), text };
}

export async function allowDevelopment(page: Page): Promise<void> {
  await page.getByLabel("A development chain").check();
  await page.getByLabel("A development SRS").check();
}

/** Some certificates, of all colours, verified against a chain. */
export async function fill(page: Page): Promise<void> {
  await allowDevelopment(page);
  await page.locator("#node").fill(process.env.CHAIN_OF_TRAINING!);
  await drop(page, certificate("sampled", "training"));
  await verdict(page, "sampled.json");
  await page.locator("#node").fill(process.env.CHAIN_OF_CERTIFICATES!);
  for (const name of ["zk-two-tasks", "output-changed_fail"]) {
    await drop(page, certificate(name));
    await verdict(page, `${name}.json`);
  }
}
