import type { Example } from "../desk/server";
import type { Action, State } from "../desk/state";
import { DropZone } from "./DropZone";
import { Examples } from "./Examples";
import { Result } from "./Result";
import { Settings } from "./Settings";

interface Props {
  state: State;
  act(action: Action): void;
  examples: Example[];
  over: boolean;
  onFiles(files: File[]): void;
  open(example: Example): void;
  stop(): void;
  ask(id: number): void;
}

export function VerifyPlace({ state, act, examples, over, onFiles, open, stop, ask }: Props) {
  const { certificates, choices } = state;
  const choose = (to: Partial<State["choices"]>): void => act({ do: "choose", choices: to });
  return (
    <>
      <h1>Verify a certificate</h1>
      <p class="lead">
        Every step is taken in this page, on your machine. No server is asked, no file leaves it, and it works with the network off.
      </p>
      <div class="columns">
        <div class="side">
          <DropZone
            over={over}
            onFiles={onFiles}
            lead="Drop certificates here"
            note="Anywhere on the page, or paste one. Files named sha256-… are kept for the certificates that need them; a manifest names validators."
          />
          <Settings choices={choices} choose={choose} onFiles={onFiles} />
          <Examples examples={examples} open={open} />
        </div>
        <div class="results">
          {certificates.length === 0 && <Empty />}
          {certificates.length > 1 && (
            <p class="actions">
              <span class="note">{certificates.length} certificates</span>
              <button type="button" onClick={() => act({ do: "again", ids: null })}>
                Verify all again
              </button>
              <button type="button" onClick={() => act({ do: "remove", ids: null })}>
                Remove all
              </button>
            </p>
          )}
          {certificates.map((certificate, at) => (
            <Result
              key={certificate.id}
              certificate={certificate}
              newest={at === 0}
              outdated={certificate.choices !== null && certificate.choices !== choices}
              again={() => act({ do: "again", ids: [certificate.id] })}
              remove={() => act({ do: "remove", ids: [certificate.id] })}
              stop={stop}
              allowDevelopment={() => {
                choose({ allowDevelopmentChain: true, allowDevelopmentSrs: true });
                act({ do: "again", ids: [certificate.id] });
              }}
              ask={() => ask(certificate.id)}
            />
          ))}
        </div>
      </div>
    </>
  );
}

function Empty() {
  return (
    <section class="panel empty">
      <h2>What you will see</h2>
      <p>
        A certificate says: this registered model, on this committed input, gave this committed output. The desk takes the numbered steps of <code>rexis verify</code>: the
        document’s form, its seal and the requester’s signature, statements, Merkle openings, zero-knowledge proofs, the anchor, and with a chain node what the chain says.
        Each turns green or red, with its reason.
      </p>
      <p>
        What a verdict is worth depends on the tier: <a href="#/guarantees">what is guaranteed, and what not</a>.
      </p>
    </section>
  );
}
