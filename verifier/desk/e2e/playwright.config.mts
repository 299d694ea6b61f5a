import { defineConfig } from "@playwright/test";
import { chromium } from "./chromium.mts";

const { executablePath, args, env } = await chromium();

/** `make test-desk` runs it, `make screenshots` what is marked `@docs`; the desk has to be built. */
export default defineConfig({
  testDir: ".",
  testMatch: "*.spec.mts",
  outputDir: "../../../node_modules/.cache/playwright",
  globalSetup: "./servers.mts",
  workers: 2,
  timeout: 90_000,
  expect: { timeout: 20_000 },
  forbidOnly: true,
  reporter: "line",
  use: {
    launchOptions: { executablePath, args, env },
    viewport: { width: 1280, height: 900 },
    actionTimeout: 15_000,
    trace: "off",
  },
});
