/** What all tests share: a verifier service with the built page, nodes with the vectors' chains, a coordinator. */

import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const OURS = `${ROOT}.venv/bin/python`;
const PYTHON = process.env.PYTHON ?? (existsSync(OURS) ? OURS : "python");

/** Starts them, tells the tests by environment variables, and returns what ends them. */
export default async function start(): Promise<() => Promise<void>> {
  const examples = `${ROOT}tests/vectors/certificates`;
  const service = python("-c", "from rexis.cli.main import run; run()", "verifier", "serve", "--port", "0", "--per-minute", "0", "--examples", examples, "--artifacts", `${examples}/artifacts`, "--allow-development-srs", "--allow-development-chain");
  const started = [service];
  const stop = async (): Promise<void> => {
    for (const child of started) {
      if (child.exitCode !== null) continue;
      child.kill("SIGTERM");
      await once(child, "exit");
    }
  };
  try {
    const origin = (await firstLine(service)).split(" ").at(-1)!;
    const stack = python("-m", "tests.desk.stack", origin);
    started.push(stack);
    Object.assign(process.env, { DESK_URL: `${origin}/` }, JSON.parse(await firstLine(stack)));
  } catch (error) {
    await stop();
    throw error;
  }
  return stop;
}

function python(...args: string[]): ChildProcess {
  return spawn(PYTHON, args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
}

async function firstLine(child: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: child.stdout! })) return line;
  throw new Error(`${child.spawnargs.join(" ")} ended before it said where it is`);
}
