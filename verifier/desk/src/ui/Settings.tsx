import { isAddress, isDigest } from "../desk/digest";
import type { Choices, Pins } from "../desk/messages";
import { Validators } from "./Validators";

interface Given {
  choices: Choices;
  choose(choices: Partial<Choices>): void;
  onFiles(files: File[]): void;
}

const PINS: { name: keyof Pins; label: string; hint: string; right(text: string): boolean; wanted: string }[] = [
  { name: "job", label: "Job", hint: "0x and 64 digits", right: isDigest, wanted: "A job id is 0x and 64 lower-case hex digits." },
  { name: "model", label: "Model", hint: "0x and 64 digits", right: isDigest, wanted: "A model's digest is 0x and 64 lower-case hex digits." },
  { name: "requester", label: "Requester", hint: "0x and 40 digits", right: isAddress, wanted: "An address is 0x and 40 hex digits." },
];

/** Whether everything that was typed can be used. */
export const usable = (choices: Choices): boolean =>
  PINS.every(({ name, right }) => !choices.pins[name] || right(choices.pins[name])) && (choices.node === null || isNode(choices.node));

/** Not http:// to a foreign host: what it answers could be anybody's. The page's policy refuses it, too. */
export function isNode(text: string): boolean {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || (url.protocol === "http:" && ["127.0.0.1", "localhost"].includes(url.hostname));
  } catch {
    return false;
  }
}

export function Settings({ choices, choose, onFiles }: Given) {
  return (
    <form class="settings" onSubmit={(event) => event.preventDefault()} autocomplete="off">
      <fieldset>
        <legend>What you expect</legend>
        <p class="note">A certificate cannot know which job, model or requester you mean. Fill in what you know from elsewhere.</p>
        {PINS.map(({ name, label, hint, right, wanted }) => (
          <Text
            key={name}
            id={`pin-${name}`}
            label={label}
            placeholder={hint}
            value={choices.pins[name] ?? ""}
            wrong={choices.pins[name] && !right(choices.pins[name]) ? wanted : null}
            onInput={(text) => choose({ pins: withPin(choices.pins, name, text) })}
          />
        ))}
      </fieldset>
      <fieldset>
        <legend>Where you look</legend>
        <Text
          id="node"
          label="Chain node (JSON-RPC)"
          placeholder="none: chain steps are skipped"
          value={choices.node ?? ""}
          wrong={choices.node !== null && !isNode(choices.node) ? "A node is https://…, or http:// on this machine (127.0.0.1, localhost)." : null}
          onInput={(text) => choose({ node: text.trim() || null })}
        />
        <p class="note">One that you trust. It must allow this page to ask it (CORS). Nothing else is asked, and nobody at all without it.</p>
      </fieldset>
      <Validators choices={choices} onFiles={onFiles} forget={() => choose({ quorum: null })} />
      <fieldset>
        <legend>What you let pass</legend>
        <Tick
          id="allow-chain"
          label="A development chain"
          note="Somebody’s laptop: anybody could have made it up."
          checked={choices.allowDevelopmentChain}
          onChange={(allowDevelopmentChain) => choose({ allowDevelopmentChain })}
        />
        <Tick
          id="allow-srs"
          label="A development SRS"
          note="Whoever made it may know its secret, and prove anything."
          checked={choices.allowDevelopmentSrs}
          onChange={(allowDevelopmentSrs) => choose({ allowDevelopmentSrs })}
        />
      </fieldset>
    </form>
  );
}

/** Without empty ones: they pin nothing. */
function withPin(pins: Pins, name: keyof Pins, text: string): Pins {
  const { [name]: _, ...rest } = pins;
  return text.trim() ? { ...rest, [name]: text.trim() } : rest;
}

interface TextProps {
  id: string;
  label: string;
  placeholder: string;
  value: string;
  wrong: string | null;
  secret?: boolean;
  onInput(text: string): void;
}

export function Text({ id, label, placeholder, value, wrong, secret = false, onInput }: TextProps) {
  return (
    <p class="field">
      <label for={id}>{label}</label>
      <input
        id={id}
        {...(secret ? { type: "password" as const } : { type: "text" as const })}
        value={value}
        placeholder={placeholder}
        spellcheck={false}
        autocapitalize="none"
        aria-invalid={wrong !== null}
        aria-describedby={wrong === null ? undefined : `${id}-wrong`}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      {wrong !== null && (
        <span class="wrong" id={`${id}-wrong`}>
          {wrong}
        </span>
      )}
    </p>
  );
}

function Tick({ id, label, note, checked, onChange }: { id: string; label: string; note: string; checked: boolean; onChange(to: boolean): void }) {
  return (
    <p class="tick">
      <input id={id} type="checkbox" checked={checked} aria-describedby={`${id}-note`} onChange={(event) => onChange(event.currentTarget.checked)} />
      <label for={id}>{label}</label>
      <span class="note" id={`${id}-note`}>
        {note}
      </span>
    </p>
  );
}
