import { useState } from "preact/hooks";
import type { Example } from "../desk/server";

const MANY = 12;

/** Certificates that this server lies ready. They are verified as any other. */
export function Examples({ examples, open }: { examples: Example[]; open(example: Example): void }) {
  const [sought, setSought] = useState("");
  if (examples.length === 0) return null;
  const found = examples.filter(({ name }) => name.toLowerCase().includes(sought.toLowerCase()));
  return (
    <section class="examples" aria-labelledby="examples">
      <h2 id="examples">Certificates on this server</h2>
      {examples.length > MANY && (
        <p class="field">
          <label for="sought">Find one of {examples.length}</label>
          <input id="sought" type="search" value={sought} onInput={(event) => setSought(event.currentTarget.value)} />
        </p>
      )}
      <ul>
        {found.slice(0, sought ? 50 : MANY).map((example) => (
          <li key={example.path}>
            <button type="button" class="link" onClick={() => open(example)}>
              {example.name}
            </button>
          </li>
        ))}
      </ul>
      {found.length === 0 && <p class="note">None has that in its name.</p>}
    </section>
  );
}
