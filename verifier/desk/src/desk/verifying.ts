/** Runs verifications, each in a fresh worker: what one certificate did to its worker, the next one does not meet. */

import type { Step } from "../verify";
import type { Answer, Found, Message, Order } from "./messages";
import VerifierWorker from "./worker?worker&inline";

export interface Running {
  found: Promise<Found>;
  cancel(): void;
}

export class Cancelled extends Error {}

interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL(url: string): string }): unknown;
}

/** The page's policy lets no text become script, but for the worker: it is part of the page, and starts from a blob of its. */
(globalThis as { trustedTypes?: TrustedTypes }).trustedTypes?.createPolicy("default", {
  createScriptURL: (url) => {
    if (!url.startsWith(`blob:${location.origin}/`)) throw new TypeError("only the page's own worker is started");
    return url;
  },
});

/** More would share memory and caches that they all wait for. */
const MOST_HELPERS = 8;

let spare: Worker | undefined;

/** Loads the library for the next verification, while nobody waits for it. */
export function prepare(): void {
  spare ??= new VerifierWorker();
}

export function verify(order: Order, onSteps: (steps: Step[]) => void): Running {
  const worker = spare ?? new VerifierWorker();
  const workers = [worker];
  spare = undefined;
  let cancel = (): void => undefined;
  const found = new Promise<Found>((resolve, reject) => {
    cancel = () => reject(new Cancelled("you stopped it"));
    worker.onmessage = ({ data: answer }: MessageEvent<Answer>) => {
      if ("steps" in answer) onSteps(answer.steps);
      else if ("wantsHelp" in answer) workers.push(...help(worker, reject));
      else if ("found" in answer) resolve(answer.found);
      else reject(new Error(answer.crashed));
    };
    rejectIfBroken(worker, reject);
    send(worker, order);
  }).finally(() => {
    for (const one of workers) one.terminate();
    prepare();
  });
  return { found, cancel };
}

/** Starts a worker a core, which check proofs for another one. */
function help(worker: Worker, reject: (error: Error) => void): Worker[] {
  const count = Math.min(MOST_HELPERS, Math.max(1, navigator.hardwareConcurrency));
  const channels = Array.from({ length: count }, () => new MessageChannel());
  const helpers = channels.map(({ port1 }) => {
    const helper = new VerifierWorker();
    rejectIfBroken(helper, reject);
    send(helper, { helps: port1 }, [port1]);
    return helper;
  });
  const ports = channels.map(({ port2 }) => port2);
  send(worker, { helpers: ports }, ports);
  return helpers;
}

function rejectIfBroken(worker: Worker, reject: (error: Error) => void): void {
  worker.onerror = (event) => reject(new Error(event.message || "the verification could not be started"));
}

function send(worker: Worker, message: Message, ports: MessagePort[] = []): void {
  worker.postMessage(message, ports);
}
