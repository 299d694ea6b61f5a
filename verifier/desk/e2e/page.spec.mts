/** What the page does beside verdicts: keyboard, no network, strangers' texts, the server's opinion, links to examples. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "@playwright/test";
import { allowDevelopment, DESK, drop, verdict } from "./desk.mts";
import { certificate, type File, large, manifest } from "./vectors.mts";

const BUILT = fileURLToPath(new URL("../dist/desk.html", import.meta.url));

test("by keyboard alone: allow, choose a file, read the verdict, look at the chain", async ({ page }) => {
  await page.goto(DESK());
  const tabTo = async (name: string): Promise<void> => {
    for (let presses = 0; presses < 40; presses++) {
      await page.keyboard.press("Tab");
      const focused = await page.evaluate(() => {
        const element = document.activeElement as HTMLElement | null;
        return element?.id || element?.innerText.trim() || "";
      });
      if (focused.startsWith(name)) return;
    }
    throw new Error(`the keyboard does not reach "${name}"`);
  };
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to the content" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.locator("main")).toBeFocused();
  const chooser = page.waitForEvent("filechooser");
  await tabTo("Choose files");
  await page.keyboard.press("Enter");
  const { base64, name } = certificate("zk");
  await tabTo("allow-chain");
  await page.keyboard.press("Space");
  await tabTo("allow-srs");
  await page.keyboard.press("Space");
  await (await chooser).setFiles([{ name, mimeType: "application/json", buffer: Buffer.from(base64, "base64") }]);
  expect((await verdict(page, "zk.json")).result).toBe("valid");
  await expect(page.getByRole("status").first()).toContainText("zk.json: Valid, offline");
  await tabTo("On chain");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("list", { name: "Path from the leaf to the root" })).toContainText("root");
  await page.keyboard.press("Shift+Tab");
  await expect(page.locator("summary", { hasText: "The job" })).toBeFocused();
});

test("verification asks nobody: no request, and the network off", async ({ page, context }) => {
  await page.goto(DESK());
  await allowDevelopment(page);
  await page.waitForLoadState("networkidle");
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await context.setOffline(true);
  await drop(page, certificate("sampled"), certificate("byte-changed_fail"));
  await page.waitForFunction(() => document.querySelectorAll('article[data-result="valid"], article[data-result="not valid"]').length === 2);
  await drop(page, certificate("zk"));
  expect((await verdict(page, "zk.json")).result).toBe("valid");
  expect(asked.filter((url) => !url.startsWith("blob:"))).toEqual([]);
});

test("the proofs of a large job are shared out to workers, and good ones are found good", async ({ page }) => {
  await page.goto(DESK());
  await allowDevelopment(page);
  let workers = 0;
  page.on("worker", () => workers++);
  const begun = performance.now();
  await drop(page, large());
  expect((await verdict(page, "large.json")).result).toBe("valid");
  console.log(`${process.env.REXIS_DESK_LARGE ?? "10,000 records, 16 proofs"}: ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  expect(workers).toBeGreaterThan(1); // one of them waits for the next verification
  await expect.poll(() => page.workers().length).toBe(1);
});

test("the page in one file verifies from disk, and asks nobody", async ({ page, context }) => {
  await context.setOffline(true);
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  const broken: string[] = [];
  page.on("console", (message) => message.type() === "error" && broken.push(message.text()));
  await page.goto(`file://${BUILT}`);
  await allowDevelopment(page);
  await drop(page, certificate("zk"));
  expect((await verdict(page, "zk.json")).result).toBe("valid");
  await drop(page, certificate("proof-bit-flipped_fail"));
  expect(await verdict(page, "proof-bit-flipped_fail.json")).toMatchObject({ result: "not valid", step: 10 });
  expect(asked.filter((url) => !url.startsWith("file:") && !url.startsWith("blob:") && !url.startsWith("data:"))).toEqual([]);
  expect(broken).toEqual([]);
  await expect(page.getByText("Ask this server", { exact: true })).toHaveCount(0);
});

test("the page's policy stops what it does not do itself", async ({ page }) => {
  await page.goto(DESK());
  const stopped = await page.evaluate(async () => {
    const broken: string[] = [];
    addEventListener("securitypolicyviolation", (event) => broken.push(event.effectiveDirective));
    const script = document.createElement("script");
    try {
      document.body.innerHTML = "<b>from text</b>";
    } catch {
      broken.push("innerHTML");
    }
    script.append("globalThis.ran = true");
    document.body.append(script);
    await fetch("http://192.0.2.1/").catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 200));
    return { broken, ran: "ran" in globalThis };
  });
  expect(stopped.ran).toBe(false);
  expect(stopped.broken).toEqual(expect.arrayContaining(["innerHTML", "connect-src"]));
});

test("a stranger's names are text, and a name that lies about a digest is refused", async ({ page }) => {
  await page.goto(DESK());
  const { base64 } = certificate("byte-changed_fail");
  const name = "<img src=x onerror=alert(1)>.json";
  await drop(page, { name, base64 });
  await verdict(page, name);
  await expect(page.getByRole("heading", { name })).toBeVisible();
  await expect(page.locator("main img")).toHaveCount(0);
  await drop(page, { name: `sha256-${"0".repeat(64)}`, base64 });
  await expect(page.getByRole("alert")).toContainText("does not have the digest that its name says");
});

test("development parameters are refused until they are let pass", async ({ page }) => {
  await page.goto(DESK());
  await drop(page, certificate("commit"));
  expect(await verdict(page, "commit.json")).toMatchObject({ result: "not valid", step: 4 });
  await page.getByRole("button", { name: "Let them pass, and verify again" }).click();
  await expect(page.locator("article.result")).toHaveAttribute("data-result", "valid");
  await expect(page.getByLabel("A development chain")).toBeChecked();
});

test("a pin that does not fit is a failure, one that is none is told of, and a change asks for another look", async ({ page }) => {
  await page.goto(DESK());
  await allowDevelopment(page);
  await page.locator("#pin-model").fill(`0x${"1".repeat(64)}`);
  await drop(page, certificate("commit"));
  expect(await verdict(page, "commit.json")).toMatchObject({ result: "not valid", step: 3 });
  await page.locator("#pin-model").fill("0x12");
  await expect(page.locator("#pin-model")).toHaveAttribute("aria-invalid", "true");
  await expect(page.locator("#pin-model-wrong")).toBeVisible();
  await expect(page.getByText("You changed what you expect or allow since")).toBeVisible();
  await page.locator("#pin-model").fill("");
  await page.getByRole("button", { name: "Verify again" }).click();
  await expect(page.locator("article.result")).toHaveAttribute("data-result", "valid");
});

test("validators count whose manifest the auditor chooses, by keyboard or by drop, and no others", async ({ page }) => {
  await page.goto(DESK());
  await allowDevelopment(page);
  await page.locator("#node").fill(process.env.CHAIN_OF_CERTIFICATES!);
  await drop(page, certificate("validators-found-valid"));
  expect(await verdict(page, "validators-found-valid.json")).toMatchObject({ result: "undecided", text: expect.stringContaining("28 validators' verdicts") });
  const chooser = page.waitForEvent("filechooser");
  await page.locator("#node").focus();
  await page.keyboard.press("Tab");
  const choose = page.getByRole("button", { name: "Choose a manifest" });
  await expect(choose).toBeFocused();
  await page.keyboard.press("Enter");
  const { base64 } = manifest("validators");
  await (await chooser).setFiles([{ name: "accountability.json", mimeType: "application/json", buffer: Buffer.from(base64, "base64") }]);
  await expect(page.getByText(/Validators of quorum .* on chain 31337, by accountability.json/)).toBeVisible();
  await expect(page.getByText("You changed what you expect or allow since")).toBeVisible();
  await page.getByRole("button", { name: "Verify again" }).click();
  await expect(page.locator("article.result")).toHaveAttribute("data-result", "valid");
  await expect(page.getByText(/2 or more validators of quorum .*, with 88.8% or more of its stake of then/)).toBeVisible();
  await drop(page, certificate("validators-silent_fail"), manifest("friends"));
  expect(await verdict(page, "validators-silent_fail.json")).toMatchObject({ result: "not valid", step: 28 });
  await expect(page.getByText(/on chain 31337, by friends.json/)).toBeVisible();
  await page.getByRole("button", { name: "Name no validators" }).press("Enter");
  await expect(choose).toBeFocused();
  const broken = Buffer.from(Buffer.from(base64, "base64").toString().replace("6666", "6667")).toString("base64");
  await drop(page, { name: "broken.json", base64: broken });
  await expect(page.getByRole("alert")).toContainText("broken.json is no manifest of validators: validatorQuorum: ");
});

test("a link opens an example of this server, and of no other", async ({ page }) => {
  await page.goto(`${DESK()}#/verify?certificate=examples/byte-changed_fail/certificate.json`);
  expect((await verdict(page, "byte-changed_fail/certificate.json")).step).toBe(2);
  for (const foreign of ["https://example.org/certificate.json", "//example.org/x", "v1/about", "examples/../healthz"]) {
    await page.goto("about:blank");
    await page.goto(`${DESK()}#/verify?certificate=${encodeURIComponent(foreign)}`);
    await expect(page.getByRole("alert")).toContainText("not one of this server’s examples");
  }
});

test("a certificate can be pasted", async ({ page }) => {
  await page.goto(DESK());
  const text = Buffer.from(certificate("byte-changed_fail").base64, "base64").toString();
  await page.evaluate((pasted) => {
    const held = new DataTransfer();
    held.setData("text/plain", pasted);
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: held, bubbles: true }));
  }, text);
  expect((await verdict(page, "pasted.json")).step).toBe(2);
});

test("the page works under a prefix, as behind a proxy", async ({ page }) => {
  const prefix = `${DESK()}some/where/`;
  await page.route(`${prefix}**`, async (route) => route.fulfill({ response: await route.fetch({ url: route.request().url().replace("some/where/", "") }) }));
  await page.goto(prefix);
  await page.getByLabel(/Find one of/).fill("byte-changed_fail");
  await page.getByRole("button", { name: "byte-changed_fail" }).click();
  expect((await verdict(page, "byte-changed_fail/certificate.json")).step).toBe(2);
});

test("the server's opinion stands apart from the page's verdict", async ({ page }) => {
  await page.goto(DESK());
  await allowDevelopment(page);
  await drop(page, certificate("commit"));
  await verdict(page, "commit.json");
  const opinion = page.getByRole("group", { name: "Second opinion of the server" });
  await opinion.getByRole("button", { name: "Ask this server" }).click();
  await expect(opinion).toContainText("says: valid, without a chain node", { timeout: 60_000 });
  await expect(page.locator("article.result > .verdict")).toContainText("Valid, offline");
});

test("many certificates at once make one lineage", async ({ page }) => {
  await page.goto(DESK());
  await page.getByLabel("A development chain").check();
  const [training, evaluation] = ["certificate.json", "certificate-2.json"].map((file) => {
    const path = fileURLToPath(new URL(`../../../tests/vectors/training/trained-and-evaluated/${file}`, import.meta.url));
    return { name: file, base64: readFileSync(path).toString("base64") };
  });
  await drop(page, training!, evaluation!);
  await page.getByRole("link", { name: "Lineage" }).click();
  await expect(page.getByRole("img", { name: /Models, and what certificates say/ })).toBeVisible();
  const list = page.locator(".tree");
  await expect(list).toContainText("training, tier");
  await expect(list).toContainText("evaluation, tier");
  await expect(list.getByText("model", { exact: false }).first()).toBeVisible();
  await page.getByRole("button", { name: "Verify the lineage" }).click();
  await expect(page.getByRole("listitem").filter({ hasText: "27 lineage" })).toBeVisible();
});

test("the log is read from a node, joined with certificates, and browsed by worker", async ({ page }) => {
  await page.goto(DESK());
  await allowDevelopment(page);
  const sampled = certificate("sampled");
  await drop(page, sampled);
  await verdict(page, "sampled.json");
  await page.getByRole("link", { name: "Log" }).click();
  const rows = page.locator("tbody tr");
  await expect(rows).toHaveCount(2);
  await page.getByLabel("Chain node (JSON-RPC)").fill(process.env.CHAIN_OF_CERTIFICATES!);
  await page.getByRole("button", { name: "Read the log" }).click();
  await expect(page.getByText(/\d+ events read/)).toBeVisible();
  expect(await rows.count()).toBe(50);
  await page.getByRole("button", { name: "Show more" }).click();
  expect(await rows.count()).toBe(100);
  await page.getByLabel("Job", { exact: true }).fill(jobOf(sampled));
  await expect(rows).toHaveCount(2);
  await expect(rows.filter({ hasText: "certificate and chain" })).toHaveCount(2);
  await rows.first().getByRole("button", { name: /^Only worker/ }).click();
  await expect(page.getByLabel("Job", { exact: true })).toHaveValue("");
  await expect(rows).toHaveCount(2);
});

const jobOf = ({ base64 }: File): string => /"jobId":"(0x[0-9a-f]{64})"/.exec(Buffer.from(base64, "base64").toString())![1]!;

test("a job is followed with a token, and the coordinator's refusal is told", async ({ page }) => {
  await page.goto(`${DESK()}#/follow`);
  await page.getByLabel("Coordinator").fill(process.env.COORDINATOR_URL!);
  await page.getByLabel("Job", { exact: true }).fill(process.env.JOB_ID!);
  await page.getByLabel("Token").fill("nonsense");
  await page.getByRole("button", { name: "Follow" }).click();
  await expect(page.getByRole("main").getByRole("status")).toContainText("401");
  await page.getByLabel("Token").fill(process.env.TOKEN!);
  await page.getByRole("button", { name: "Follow" }).click();
  await expect(page.getByRole("main").getByRole("status")).toContainText("The job has ended");
  await expect(page.getByText("certified", { exact: false }).first()).toBeVisible();
  await expect(page.locator(".changes li").first()).toContainText("certified");
});

test("one verification runs at a time, and can be stopped", async ({ page }) => {
  await page.goto(DESK());
  await allowDevelopment(page);
  await drop(page, certificate("sampled-everything"), certificate("zk-two-tasks"));
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.locator("article.result").nth(1)).toHaveAttribute("data-result", "stopped");
  await expect(page.locator("article.result").nth(0)).toHaveAttribute("data-result", "valid");
});
