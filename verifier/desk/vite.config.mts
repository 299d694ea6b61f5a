import { fileURLToPath } from "node:url";
import preact from "@preact/preset-vite";
import { defineConfig } from "vite";
import { claims } from "./build/claims.mts";
import { events } from "./build/events.mts";
import { oneFile } from "./build/one-file.mts";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Writes the page that is served, in files that are named by their hashes, and `desk.html`, the same page in one file. */
export default defineConfig({
  root: here("."),
  base: "./",
  plugins: [preact(), claims(here("../../docs/threat-model.md")), events(here("../../contracts/abi")), oneFile("desk.html")],
  // Browsers start no module worker from a page on disk.
  worker: { format: "iife" },
  build: {
    target: "es2022",
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    outDir: here("dist"),
    emptyOutDir: true,
    modulePreload: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 1000,
  },
});
