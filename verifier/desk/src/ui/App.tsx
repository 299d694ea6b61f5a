import { useCallback, useEffect, useReducer, useRef, useState } from "preact/hooks";
import { type Given, read, recognise, Refused } from "../desk/files";
import { addressOf } from "../desk/places";
import { ask, type Example, examples as listExamples, fetchExample, served } from "../desk/server";
import { documentOf, reduce, START } from "../desk/state";
import { Cancelled, prepare, type Running, verify } from "../desk/verifying";
import { useDrops } from "./drops";
import { FollowPlace } from "./FollowPlace";
import { Guarantees } from "./Guarantees";
import { Header } from "./Header";
import { LineagePlace } from "./LineagePlace";
import { LogPlace } from "./LogPlace";
import { Refusals } from "./Refusals";
import { ReportsPlace } from "./ReportsPlace";
import { usable } from "./Settings";
import { wordsOf } from "./Verdict";
import { VerifyPlace } from "./VerifyPlace";

export function App() {
  const [state, act] = useReducer(reduce, START);
  const [address, setAddress] = useState(() => addressOf(location.hash));
  const [examples, setExamples] = useState<Example[] | null>(null);
  const running = useRef<Running | null>(null);

  useEffect(() => {
    const move = (): void => setAddress(addressOf(location.hash));
    addEventListener("hashchange", move);
    prepare();
    if (served()) listExamples().then(setExamples, () => setExamples([]));
    return () => removeEventListener("hashchange", move);
  }, []);

  const onFiles = useCallback(async (files: File[]) => {
    let report = false;
    const certificates: Given[] = []; // after what they may be verified with
    for await (const given of read(files)) {
      if (given instanceof Refused) act({ do: "refuse", reason: given.message });
      else if (given.kind === "certificate") certificates.push(given);
      else act({ do: "give", given });
      report ||= !(given instanceof Refused) && ["bench", "card", "attacks"].includes(given.kind);
    }
    for (const given of certificates) act({ do: "give", given });
    if (report) location.hash = "#/reports";
  }, []);
  const over = useDrops(onFiles);

  const open = useCallback(async ({ path, artefacts }: Example) => {
    try {
      for (const each of [...artefacts, path]) act({ do: "give", given: recognise(nameOf(each), await fetchExample(each)) });
    } catch (error) {
      act({ do: "refuse", reason: error instanceof Error ? error.message : String(error) });
    }
  }, []);

  // A link to a certificate of this server.
  useEffect(() => {
    if (address.certificate === null || examples === null) return;
    const path = address.certificate;
    void open(examples.find((example) => example.path === path) ?? { name: path, path, artefacts: [] });
  }, [address.certificate, examples]);

  // One verification at a time, in the order in which certificates were given.
  const next = state.certificates.findLast(({ progress }) => progress === "waiting");
  const busy = state.certificates.some(({ progress }) => progress === "running");
  const ready = next !== undefined && !busy && usable(state.choices);
  useEffect(() => {
    if (!ready) return;
    const { id } = next;
    const { choices, artefacts } = state;
    const began = performance.now();
    act({ do: "change", id, to: { progress: "running", choices } });
    running.current = verify({ documents: [documentOf(next, artefacts)], choices }, (steps) => act({ do: "steps", id, steps }));
    running.current.found
      .then(
        (found) => act({ do: "change", id, to: { progress: "done", found, steps: found.steps, seconds: (performance.now() - began) / 1000 } }),
        (error: Error) => act({ do: "change", id, to: { progress: error instanceof Cancelled ? "stopped" : "crashed", trouble: error.message } }),
      )
      .finally(() => {
        running.current = null;
      });
  }, [ready, next?.id]);

  const askServer = useCallback(
    async (id: number) => {
      const certificate = state.certificates.find((each) => each.id === id);
      if (!certificate) return;
      act({ do: "change", id, to: { opinion: "asking" } });
      try {
        act({ do: "change", id, to: { opinion: await ask(certificate.data, certificate.choices?.pins ?? {}) } });
      } catch (error) {
        act({ do: "change", id, to: { opinion: { refused: error instanceof Error ? error.message : String(error) } } });
      }
    },
    [state.certificates],
  );

  const latest = state.certificates.find(({ progress }) => progress !== "waiting" && progress !== "running");
  return (
    <>
      <Header at={address.place} />
      <main id="main" tabIndex={-1}>
        <Refusals reasons={state.refusals} forget={() => act({ do: "forget" })} />
        {address.place === "verify" && (
          <VerifyPlace state={state} act={act} examples={examples ?? []} over={over} onFiles={onFiles} open={open} stop={() => running.current?.cancel()} ask={askServer} />
        )}
        {address.place === "lineage" && <LineagePlace state={state} />}
        {address.place === "log" && <LogPlace certificates={state.certificates} node={state.choices.node} />}
        {address.place === "follow" && <FollowPlace />}
        {address.place === "reports" && <ReportsPlace state={state} over={over} onFiles={onFiles} />}
        {address.place === "guarantees" && <Guarantees />}
      </main>
      <div class="hidden" role="status">
        {latest ? `${latest.name}: ${wordsOf(latest).word}. ${wordsOf(latest).text}` : state.said}
      </div>
      <footer class="foot">
        <p>
          This page asks nobody unless you name a chain node, a coordinator, or press “Ask this server”.
          {served() && (
            <>
              {" "}
              To keep it, with its digest: <a href="desk.html" download>desk.html</a>, one file that works from disk.
            </>
          )}
        </p>
      </footer>
    </>
  );
}

const nameOf = (path: string): string => decodeURIComponent(path.split("/").slice(-2).join("/")).replace(/^.*\/(?=sha256-)/, "");
