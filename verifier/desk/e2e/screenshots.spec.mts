/** The pictures in the docs: `make screenshots`. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Page, test } from "@playwright/test";
import { DESK, drop, fill, verdict } from "./desk.mts";
import { fileOf } from "./vectors.mts";

const IMAGES = fileURLToPath(new URL("../../../docs/images/", import.meta.url));
const TRAINING = fileURLToPath(new URL("../../../tests/vectors/training/trained-twice/", import.meta.url));

test.use({ viewport: { width: 1120, height: 820 } });

test("valid, and not valid @docs", async ({ page }) => {
  await page.goto(DESK());
  await fill(page);
  await shoot(page, "desk-not-valid");
  await page.getByRole("button", { name: "Remove output-changed_fail.json" }).click();
  await page.emulateMedia({ colorScheme: "dark" });
  await shoot(page, "desk-valid-dark");
});

test("lineage @docs", async ({ page }) => {
  await page.goto(DESK());
  await fill(page);
  await page.getByRole("button", { name: "Remove all" }).click();
  await page.locator("#node").fill(process.env.CHAIN_OF_TRAINING!);
  for (const number of ["", "-2", "-3", "-4"]) {
    const name = `certificate${number}.json`;
    await drop(page, fileOf(TRAINING + name, name));
    await verdict(page, name);
  }
  await page.getByRole("navigation").getByRole("link", { name: "Lineage" }).click();
  await shoot(page, "desk-lineage");
});

test("reports @docs", async ({ page }) => {
  await page.goto(DESK());
  await drop(page, { name: "card.json", base64: readFileSync(`${process.env.REPORTS}/card.json`).toString("base64") });
  await page.getByRole("heading", { name: "Leakage card" }).scrollIntoViewIfNeeded();
  await shoot(page, "desk-leakage-card");
});

/** Without what differs from run to run: ports in fields, and times. */
async function shoot(page: Page, name: string): Promise<void> {
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.screenshot({ path: `${IMAGES}${name}.png`, animations: "disabled", caret: "hide" });
}
