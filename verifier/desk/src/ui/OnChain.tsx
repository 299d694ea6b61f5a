import type { Facts, Place } from "../desk/facts";
import { Digest } from "./Digest";
import { Terms } from "./Terms";

/** Where each task's statement stands on chain: leaf, path, root, transaction. */
export function OnChain({ facts }: { facts: Facts }) {
  return (
    <>
      <Terms
        of={[
          ["Chain", facts.chainId],
          ["EvidenceLog", <Digest value={facts.log} what="the log's address" whole />],
          ["ModelRegistry", <Digest value={facts.registry} what="the registry's address" whole />],
        ]}
      />
      {facts.places.map((place) => (
        <PlaceOf key={place.start} place={place} many={facts.places.length > 1} />
      ))}
      {facts.tasks > facts.places.length && <p class="note">and {facts.tasks - facts.places.length} more tasks; all were verified.</p>}
    </>
  );
}

function PlaceOf({ place, many }: { place: Place; many: boolean }) {
  const { anchor, commitment, certified } = place;
  return (
    <section class="place">
      {many && (
        <h3>
          Records {place.start}–{place.start + place.count - 1}
        </h3>
      )}
      <Terms
        of={[
          ["Worker", <Digest value={place.worker} what="the worker's address" whole />],
          ...(commitment
            ? ([["Committed", <>attempt {commitment.attempt}, in block {commitment.blockNumber} by <Digest value={commitment.transaction} what="the commitment's transaction" /></>],
                ["Challenge", <>the hash of block {commitment.blockNumber + 1}: <Digest value={commitment.challengeBlockHash} what="the challenge's block hash" /></>]] as const)
            : []),
          ["Anchored", <>as number {anchor.anchorId}, in block {anchor.blockNumber} by <Digest value={anchor.transaction} what="the anchor's transaction" /></>],
          ...(certified.length > 0 ? ([["Certified", `${certified.length} records, by transactions of their own`]] as const) : []),
        ]}
      />
      <ol class="path" aria-label="Path from the leaf to the root">
        <li>
          <span>leaf</span> <code>{place.leaf}</code>, the statement’s digest, {anchor.leafIndex} of {anchor.size}
        </li>
        {anchor.path.map((node, at) => (
          <li key={at}>
            <span>with</span> <code>{node}</code>
          </li>
        ))}
        <li>
          <span>root</span> <code>{anchor.root}</code>
        </li>
      </ol>
    </section>
  );
}
