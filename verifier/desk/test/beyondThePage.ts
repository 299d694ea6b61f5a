/** Vectors whose verdict in the page is not Python's, with the reason. The tests fail when one of them agrees. */

import type { Result } from "../src/verify";

interface Beyond {
  because: string;
  kind: "certificates" | "training";
  /** The page's verdict on all of them; none of its steps fails. */
  result: Result;
  names: readonly string[];
}

const BEYOND: readonly Beyond[] = [
  {
    because: "step 12: the auditor has records run again, and a page has no ONNX Runtime",
    kind: "certificates",
    result: "valid",
    names: [
      "circuit-of-another-model-reexecuted_fail",
      "model-file-swapped_fail",
      "model-that-gives-nan_fail",
      "model-that-loops_fail",
      "model-with-external-weights_fail",
      "nothing-to-reexecute_fail",
      "outputs-of-different-lengths_fail",
      "tampered-output-reexecuted_fail",
      "tolerance-exceeded_fail",
    ],
  },
  {
    because: "step 13: the auditor has the circuit built again, and a page has no ezkl",
    kind: "certificates",
    result: "valid",
    names: [
      "circuit-of-another-model-rebuilt_fail",
      "cut-elsewhere_fail",
      "onsite-unsalted-rebuilt_fail",
      "onsite-values-that-nothing-reads_fail",
      "segment-of-another-model-registered_fail",
      "settings-with-another-input-scale_fail",
      "settings-with-another-output-scale_fail",
    ],
  },
  {
    because: "steps 23 to 26 are undecided in a page, so that no certificate of a training is valid",
    kind: "training",
    result: "undecided",
    names: [
      "cheat-at-commit",
      "cheat-not-drawn",
      "commit-taken-again",
      "commit",
      "drift-within-the-tolerance",
      "handed-over",
      "poisoned-data",
      "sampled-everything",
      "sampled-offline",
      "sampled-second-attempt",
      "sampled",
      "trained-and-evaluated",
      "trained-twice",
    ],
  },
  {
    because: "steps 23 to 25: the fault shows in the base model, a state or the dataset, which a page does not read",
    kind: "training",
    result: "undecided",
    names: [
      "moments-at-the-start_fail",
      "wrong-first-state_fail",
      "last-state-of-another_fail",
      "wrong-trained-model_fail",
      "dataset-of-another-root_fail",
    ],
  },
  {
    because: "step 26: the fault shows when segments are taken again, and a page cannot train",
    kind: "training",
    result: "undecided",
    names: [
      "cheat-at-commit-taken-again_fail",
      "drift-beyond-the-tolerance_fail",
      "layer-not-trained_fail",
      "learning-rate-lower_fail",
      "lineage-of-a-cheat_fail",
      "loss-flattered_fail",
      "moments-forgotten_fail",
      "not-warmed-up_fail",
      "nothing-trained_fail",
      "optimiser-swapped_fail",
      "other-data_fail",
      "other-order_fail",
      "smaller-batches_fail",
      "state-that-does-not-chain_fail",
      "step-repeated_fail",
      "step-skipped_fail",
      "weight-decay-added_fail",
    ],
  },
];

/** The page's verdict, by folder. */
export const beyondThePage: ReadonlyMap<string, Result> = new Map(
  BEYOND.flatMap(({ kind, result, names }) => names.map((name) => [`${kind}/${name}`, result] as const)),
);
