import type { Block, Inline, Item, Section } from "../desk/claims";
import { CLAIMS } from "../desk/claims";

/** A section of the threat model, under a heading of the given level. */
export function Claim({ name, level = 3 }: { name: string; level?: 2 | 3 | 4 }) {
  const section: Section = CLAIMS[name]!;
  const Heading = `h${level}` as const;
  return (
    <section class="claim">
      <Heading>
        <Text parts={section.title} />
      </Heading>
      {section.blocks.map((block, at) => (
        <BlockOf key={at} block={block} />
      ))}
    </section>
  );
}

function BlockOf({ block }: { block: Block }) {
  if (block.kind === "list") return <ListOf items={block.items} />;
  return (
    <p>
      <Text parts={block.text} />
    </p>
  );
}

function ListOf({ items }: { items: Item[] }) {
  return (
    <ul>
      {items.map(({ text, items: inner }, at) => (
        <li key={at}>
          <Text parts={text} />
          {inner.length > 0 && <ListOf items={inner} />}
        </li>
      ))}
    </ul>
  );
}

function Text({ parts }: { parts: Inline[] }) {
  return parts.map(({ kind, text }, at) => {
    if (kind === "strong") return <strong key={at}>{text}</strong>;
    if (kind === "em") return <em key={at}>{text}</em>;
    if (kind === "code") return <code key={at}>{text}</code>;
    return text;
  });
}
