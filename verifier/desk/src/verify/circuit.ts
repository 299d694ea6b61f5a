/** Step 5: the circuit's artefacts. As `verifier/circuit.py`, without ezkl. */

import { concat, type Digest, fromHex, keccak, sha256, toHex } from "./bytes";
import type { CircuitMaterial } from "./certificate";
import { RexisError } from "./errors";
import { describe, parseSettings, type Segment, splitKeys, splitVkas } from "./settings";
import { readSrs } from "./srs";
import { Circuit } from "./statement";
import { comparePoints, compareVka } from "./vka";

/** What a checker needs of one segment. */
export interface SegmentArtefacts {
  settings: Segment;
  vka: readonly Digest[];
}

/** What is said of an artefact in Python's words, by the field of the circuit that pins it. */
const NAMES: Readonly<Record<keyof Circuit, string>> = {
  vkDigest: "vk_digest",
  vkaDigest: "vka_digest",
  srsDigest: "srs_digest",
  settingsDigest: "settings_digest",
  visibility: "visibility",
  inputScale: "input_scale",
  outputScale: "output_scale",
  inputLength: "input_length",
  outputLength: "output_length",
};

export interface CheckedCircuit {
  segments: readonly SegmentArtefacts[];
  /** How many of the vks' commitments stand in the VKAs. */
  commitments: number;
}

/** Embedded artefacts, after comparing every digest and every number that the request pins, and VKA with vk. */
export function checkCircuit(
  material: CircuitMaterial | null,
  pinned: Circuit,
  srs: Uint8Array | undefined,
): CheckedCircuit {
  if (material === null) throw new RexisError("is missing, but the tier proves with one", { field: "circuit" });
  const settings = parseSettings(material.settings);
  const found = describe(settings, {
    vk: toHex(sha256(material.vk)),
    vka: toHex(keccak(concat(...material.vka.map(fromHex)))),
    srs: pinned.srsDigest,
  });
  for (const [field, name] of Object.entries(NAMES) as [keyof Circuit, string][]) {
    if (found[field] !== pinned[field]) {
      throw new RexisError(`circuit has ${name} ${found[field]}, not the pinned ${pinned[field]}`, { field: name });
    }
  }
  const count = settings.segments.length;
  const [keys, vkas] = [splitKeys(material.vk, count), splitVkas(material.vka, count)];
  const points = srs && readSrs(srs, pinned.srsDigest, settings.segments[0].logrows);
  let commitments = 0;
  const segments = settings.segments.map((segment, place) => {
    const [vk = new Uint8Array(0), vka = []] = [keys[place], vkas[place]];
    commitments += compareVka(segment, vk, vka);
    if (points) comparePoints(vka, points);
    return { settings: segment, vka };
  });
  return { segments, commitments };
}
