/** axe on every place, filled, in both themes; narrow; without motion; on paper. */

import { readFileSync } from "node:fs";
import AxeBuilder from "@axe-core/playwright";
import { expect, type Page, test } from "@playwright/test";
import { DESK, drop, fill } from "./desk.mts";
import { type File, manifest } from "./vectors.mts";

const PLACES = ["Verify", "Lineage", "Log", "Follow a job", "Reports", "Guarantees"];
const REPORTS = ["bench.json", "card.json", "attacks.json"];

const report = (name: string): File => ({ name, base64: readFileSync(`${process.env.REPORTS}/${name}`).toString("base64") });

for (const theme of ["light", "dark"] as const) {
  test(`no violation that axe finds, ${theme}`, async ({ page }) => {
    test.setTimeout(240_000);
    await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
    await page.goto(DESK());
    await expect(page.getByRole("heading", { name: "What you will see" })).toBeVisible();
    await clean(page);
    await fill(page);
    await drop(page, manifest("validators"), ...REPORTS.map(report));
    for (const place of PLACES) {
      await page.getByRole("navigation").getByRole("link", { name: place }).click();
      await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
      await page.evaluate(() => document.querySelectorAll("main details").forEach((each) => ((each as HTMLDetailsElement).open = true)));
      await clean(page);
    }
  });
}

test("the switch wins over the system's theme, and is remembered", async ({ page }) => {
  await page.emulateMedia({ colorScheme: "dark" });
  await page.goto(DESK());
  const colour = (): Promise<string> => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await colour();
  await page.getByRole("radio", { name: "light" }).check();
  const light = await colour();
  expect(light).not.toBe(dark);
  await page.reload();
  expect(await colour()).toBe(light);
});

test("320 pixels wide nothing is cut off", async ({ page }) => {
  await page.setViewportSize({ width: 320, height: 700 });
  await page.goto(DESK());
  await fill(page);
  await drop(page, manifest("validators"), ...REPORTS.map(report));
  for (const place of PLACES) {
    await page.getByRole("navigation").getByRole("link", { name: place }).click();
    expect(await page.evaluate(() => document.documentElement.scrollWidth), place).toBeLessThanOrEqual(320);
  }
});

test("what stands on paper is the verdict and its steps", async ({ page }) => {
  await page.goto(DESK());
  await fill(page);
  await page.emulateMedia({ media: "print" });
  await expect(page.locator("article.result .verdict").first()).toBeVisible();
  await expect(page.locator("article.result .steps").first()).toBeVisible();
  await expect(page.getByRole("navigation")).toBeHidden();
  await expect(page.getByRole("button", { name: "Choose files" })).toBeHidden();
});

test("reports are shown with their figures, and plots say them", async ({ page }) => {
  await page.goto(DESK());
  await drop(page, ...REPORTS.map(report));
  await expect(page).toHaveURL(/#\/reports$/);
  await expect(page.getByRole("heading", { name: "Benchmark: bench.json" })).toBeVisible();
  await expect(page.getByRole("img", { name: /^One proof \(logarithmic\): .* s/ })).toBeVisible();
  await expect(page.getByRole("heading", { name: "Leakage card: card.json" })).toBeVisible();
  await expect(page.getByRole("row", { name: /known plaintext.*broken/ }).first()).toBeVisible();
  const { base64 } = report("card.json");
  const broken = Buffer.from(base64, "base64").toString().replace('"size"', '"sice"');
  await drop(page, { name: "broken.json", base64: Buffer.from(broken).toString("base64") });
  await expect(page.getByRole("alert")).toContainText("size is not a number");
});

async function clean(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} (${failureSummary})`).join("; ")}`)).toEqual([]);
}
