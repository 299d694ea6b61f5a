import { defineConfig } from "vitest/config";

export default defineConfig({
  cacheDir: "../../node_modules/.vite",
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/oracle.ts"],
    // Proofs keep a core busy, and so does Python beside them.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
  },
});
