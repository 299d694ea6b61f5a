/** The service that the page came from, if it came from one. Nothing is sent there unless somebody asks for it. */

import type { Result, Step } from "../verify";
import type { Pins } from "./messages";
import { Field } from "./reading";

export interface About {
  version: string;
  chain: boolean;
  acceptsDevelopmentChain: boolean;
  acceptsDevelopmentSrs: boolean;
}

/** What the service found. Its operator's word. */
export interface Opinion {
  result: Result;
  steps: Step[];
  shows: string[];
  error: string | null;
  verifier: string;
  chain: boolean;
}

/** A certificate that the service offers to look at. */
export interface Example {
  name: string;
  path: string;
  /** Paths of files beside it that are named by their digest. */
  artefacts: string[];
}

export const served = (): boolean => location.protocol === "http:" || location.protocol === "https:";

const here = (path: string): URL => new URL(path, document.baseURI);

export async function about(): Promise<About> {
  const field = new Field(await answer(await fetch(here("v1/about"))), "the server's answer");
  return {
    version: field.get("version").text(),
    chain: field.get("chain").flag(),
    acceptsDevelopmentChain: field.get("acceptsDevelopmentChain").flag(),
    acceptsDevelopmentSrs: field.get("acceptsDevelopmentSrs").flag(),
  };
}

export async function examples(): Promise<Example[]> {
  return new Field(await answer(await fetch(here("examples/"))), "the list of examples").get("examples").list((each) => ({
    name: each.get("name").text(),
    path: each.get("path").text(),
    artefacts: each.get("artefacts").list((path) => path.text()),
  }));
}

/** A file of this server's. Other hosts are not asked, whatever a link says. */
export async function fetchExample(path: string): Promise<Uint8Array> {
  const url = here(path);
  if (url.origin !== location.origin || !url.pathname.startsWith(here("examples/").pathname)) throw new Error(`${path} is not one of this server’s examples`);
  const response = await fetch(url, { redirect: "error" });
  if (!response.ok) throw new Error(`${path}: the server answered ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** Sends the certificate to the server. */
export async function ask(data: Uint8Array, pins: Pins): Promise<Opinion> {
  const url = here("v1/verify");
  for (const [name, value] of Object.entries(pins)) if (value) url.searchParams.set(name, value);
  const response = await fetch(url, { method: "POST", body: data as BodyInit, headers: { "content-type": "application/json" } });
  const field = new Field(await answer(response), "the server's answer");
  return {
    result: field.get("result").text() as Result,
    steps: field.get("steps").list((step) => {
      const hint = step.get("hint").maybe((each) => each.text());
      return {
        number: step.get("number").number(),
        name: step.get("name").text(),
        status: step.get("status").text() as Step["status"],
        detail: step.get("detail").text(),
        ...(hint === null ? {} : { hint }),
      };
    }),
    shows: field.get("shows").list((each) => each.text()),
    error: field.get("error").maybe((each) => each.text()),
    verifier: field.get("verifier").text(),
    chain: field.get("chain").flag(),
  };
}

/** The JSON of an answer; of an RFC 9457 problem its text. */
async function answer(response: Response): Promise<unknown> {
  if (response.ok) return response.json();
  let said = `the server answered ${response.status}`;
  try {
    const problem = new Field(await response.json(), "the problem");
    said = problem.get("detail").maybe((each) => each.text()) ?? problem.get("title").text();
  } catch {
    // No problem document: the status has to do.
  }
  throw new Error(said);
}
