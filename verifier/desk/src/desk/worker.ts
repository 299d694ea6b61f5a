/**
 * Verifies beside the page, so that the page stays responsive. Each order gets a worker of its own, and others that check
 * proofs for it if it has many.
 */

import {
  helpWithProofs,
  httpNode,
  type Options,
  type ProofRunner,
  runProofs,
  shareProofs,
  type Step,
  verifyCertificate,
  verifyLineage,
} from "../verify";
import { factsOf } from "./facts";
import type { Answer, Found, Message, Order } from "./messages";

const say = (answer: Answer): void => self.postMessage(answer);

/** A job of many tasks takes more steps than a page can show one by one. */
const TOLD_EVERY_MS = 50;
let told = 0;
let untold: Step[] = [];

function onStep(step: Step): void {
  untold.push(step);
  if (performance.now() - told < TOLD_EVERY_MS) return;
  told = performance.now();
  say({ steps: untold });
  untold = [];
}

/** So few are checked before others have started. */
const ALONE = 6;
let shared: Promise<ProofRunner> | undefined;
let begin: (run: ProofRunner) => void;

const runMany: ProofRunner = async (jobs) => {
  if (jobs.length <= ALONE) return runProofs(jobs);
  shared ??= new Promise((resolve) => {
    begin = resolve;
    say({ wantsHelp: true });
  });
  return (await shared)(jobs);
};

self.onmessage = ({ data }: MessageEvent<Message>): void => {
  if ("helps" in data) helpWithProofs(data.helps);
  else if ("helpers" in data) begin(shareProofs(data.helpers));
  else void take(data);
};

async function take(order: Order): Promise<void> {
  try {
    say({ found: await (order.documents.length === 1 ? alone(order) : together(order)) });
  } catch (error) {
    say({ crashed: error instanceof Error ? error.message : String(error) });
  }
}

async function alone({ documents, choices }: Order): Promise<Found> {
  const { data, srs } = documents[0]!;
  const options = { ...optionsOf(choices), ...(srs && { srs }) };
  const { document, result, steps, shows } = await verifyCertificate(data, options, onStep);
  return { result, steps, shows, facts: document && factsOf(document) };
}

async function together({ documents, choices }: Order): Promise<Found> {
  const given = documents.map(({ name, data, srs }) => ({ name, data, ...(srs && { srs }) }));
  const { result, steps, shows } = await verifyLineage(given, optionsOf(choices), onStep);
  return { result, steps, shows, facts: null };
}

function optionsOf({ pins, allowDevelopmentChain, allowDevelopmentSrs, node, quorum }: Order["choices"]): Options {
  const nodes = node !== null && { node: httpNode(node) };
  return { pins, allowDevelopmentChain, allowDevelopmentSrs, runProofs: runMany, ...nodes, ...(quorum && { quorum }) };
}
