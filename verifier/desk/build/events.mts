import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const MODULE = "virtual:events";
const CONTRACTS = ["ModelRegistry", "EvidenceLog", "Certifier"] as const;

/** `virtual:events`: what the contracts write, by their exported ABI, without their code. */
export function events(folder: string): Plugin {
  return {
    name: "events",
    resolveId: (id) => (id === MODULE ? `\0${MODULE}` : undefined),
    load(id) {
      if (id !== `\0${MODULE}`) return undefined;
      const found = CONTRACTS.flatMap((contract) => {
        const path = join(folder, `${contract}.json`);
        this.addWatchFile(path);
        const { abi } = JSON.parse(readFileSync(path, "utf8")) as { abi: AbiEntry[] };
        return abi
          .filter((entry) => entry.type === "event")
          .map(({ name, inputs }) => ({ contract, name, inputs: inputs.map(({ name, type, indexed }) => ({ name, type, indexed })) }));
      });
      return `export default ${JSON.stringify(found)}`;
    },
  };
}

interface AbiEntry {
  type: string;
  name: string;
  inputs: { name: string; type: string; indexed: boolean }[];
}
