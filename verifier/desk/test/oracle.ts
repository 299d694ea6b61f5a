/** Starts Python's part of the tests once: the recorded chains, and its verdicts (`tests/desk/oracle.py`). */

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { TestProject } from "vitest/node";

const ROOT = resolve(import.meta.dirname, "../../..");

declare module "vitest" {
  interface ProvidedContext {
    /** Folder in which Python writes. */
    folder: string;
    chains: { certificates: string; training: string };
    /** Manifests of the quorums that vectors name, as Python writes them. */
    quorums: Record<string, string>;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = mkdtempSync(join(tmpdir(), "rexis-desk-"));
  const venv = join(ROOT, ".venv/bin/python");
  const python = process.env["PYTHON"] ?? (existsSync(venv) ? venv : "python");
  const child = spawn(python, ["-m", "tests.desk.oracle", folder], {
    cwd: ROOT,
    stdio: ["pipe", "inherit", "inherit"],
  });
  let ended = false;
  child.once("exit", () => (ended = true));
  child.once("error", () => (ended = true));
  while (!existsSync(join(folder, "ready.json"))) {
    if (ended) throw new Error(`${python} -m tests.desk.oracle did not start`);
    await sleep(50);
  }
  project.provide("folder", folder);
  const ready = JSON.parse(readFileSync(join(folder, "ready.json"), "utf8"));
  project.provide("chains", ready.chains);
  project.provide("quorums", ready.quorums);
  return async () => {
    child.stdin.end();
    while (!ended) await sleep(20);
    rmSync(folder, { recursive: true, force: true });
  };
}
