import type { ComponentChildren } from "preact";

/** Terms with what they are here. */
export function Terms({ of }: { of: readonly (readonly [string, ComponentChildren])[] }) {
  return (
    <dl class="terms">
      {of.map(([term, value]) => (
        <div key={term}>
          <dt>{term}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
