import { useState } from "preact/hooks";
import { entries, type Entry, MAX_ENTRIES } from "../desk/chain-log";
import { filtered, rowsOf, SOUGHT, type Sought } from "../desk/log-rows";
import type { Certificate } from "../desk/state";
import { DEPLOYMENT } from "../verify/contracts";
import { httpNode } from "../verify/node";
import { LogTable } from "./LogTable";
import { isNode, Text } from "./Settings";

const CONTRACTS = [DEPLOYMENT.modelRegistry, DEPLOYMENT.evidenceLog, DEPLOYMENT.certifier];
const NONE: Record<Sought, string> = { job: "", model: "", worker: "", dataset: "" };

/** The log by job, model, worker and dataset: from certificates, and from a chain node if there is one. */
export function LogPlace({ certificates, node }: { certificates: Certificate[]; node: string | null }) {
  const [url, setUrl] = useState(node ?? "");
  const [first, setFirst] = useState("0");
  const [sought, setSought] = useState(NONE);
  const [read, setRead] = useState<Entry[]>([]);
  const [says, setSays] = useState("");
  const facts = certificates.flatMap(({ found }) => (found?.facts && found.result !== "not valid" ? [found.facts] : []));
  const rows = filtered(rowsOf(facts, read), sought);

  const load = async (): Promise<void> => {
    try {
      const found = await entries(httpNode(url), CONTRACTS, Number(first), (block, head) => setSays(`Reading block ${block} of ${head}…`));
      setRead(found);
      setSays(`${found.length} events read${found.length >= MAX_ENTRIES ? ", and no more: name a later first block" : ""}.`);
    } catch (error) {
      setSays(`The node could not be read: ${error instanceof Error ? error.message : String(error)}`);
    }
  };

  const from = /^\d{1,15}$/.test(first);
  return (
    <>
      <h1>Browse the log</h1>
      <p class="lead">
        What stands on chain of jobs, models, workers and datasets. The chain holds digests only; which worker and dataset a statement names, its certificate says. Rows of
        certificates that are not valid are left out.
      </p>
      <section class="panel">
        <h2>From a chain node</h2>
        <form
          class="row"
          onSubmit={(event) => {
            event.preventDefault();
            void load();
          }}
        >
          <Text id="log-node" label="Chain node (JSON-RPC)" placeholder="https://…" value={url} wrong={url && !isNode(url) ? "A node is https://…, or http:// on this machine." : null} onInput={setUrl} />
          <Text id="log-first" label="First block" placeholder="0" value={first} wrong={from ? null : "A block is a number."} onInput={setFirst} />
          <button type="submit" class="primary" disabled={!isNode(url) || !from}>
            Read the log
          </button>
        </form>
        <p class="note" role="status">
          {says || "What the contracts of this version wrote; they stand at the same addresses on every chain."}
        </p>
      </section>
      <section class="panel">
        <h2>Entries</h2>
        <div class="row" role="group" aria-label="Show only entries of">
          {SOUGHT.map((name) => (
            <Text key={name} id={`sought-${name}`} label={name[0]!.toUpperCase() + name.slice(1)} placeholder="0x…" value={sought[name]} wrong={null} onInput={(text) => setSought({ ...sought, [name]: text })} />
          ))}
        </div>
        <LogTable rows={rows} seek={(name, value) => setSought({ ...NONE, [name]: value })} />
      </section>
    </>
  );
}
