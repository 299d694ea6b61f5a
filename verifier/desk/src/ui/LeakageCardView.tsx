import type { LeakageCard } from "../desk/leakage";
import { AttackTable } from "./AttackTable";
import { Digest } from "./Digest";
import { Table } from "./Table";
import { Terms } from "./Terms";

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

/** What the keys of a model hide, and what stays readable. */
export function LeakageCardView({ card }: { card: LeakageCard }) {
  return (
    <section class="panel">
      <h2>Leakage card: {card.name}</h2>
      {card.file === "plain" && <p class="warning">This model is not encrypted. The card says what encrypting it would hide.</p>}
      <Terms
        of={[
          ["Model", <Digest value={card.modelDigest} what="the model's digest" whole />],
          ["Rung", card.rung],
          ["Condition", card.maxCondition === null ? "not known without the key" : `${card.maxCondition.toPrecision(3)} at most: how far distances between records are stretched`],
          ["Nearest layer", card.smallestDistance === null ? "no public base model was named" : `${percent(card.smallestDistance)} from the public base model`],
        ]}
      />
      <h3>What stays visible</h3>
      <ul>
        {card.visible.map((text, at) => (
          <li key={at}>{text}</li>
        ))}
      </ul>
      {card.training && (
        <>
          <h3>What a training with {card.training.optimiser} shows besides</h3>
          <ul>
            {card.training.visible.map((text, at) => (
              <li key={at}>{text}</li>
            ))}
          </ul>
        </>
      )}
      <h3>Records and outputs</h3>
      <Table
        name="Records and outputs"
        head={["Side", "Type", "Shape", "Keys by axis", "Values", "Offset"]}
        rows={card.sides.map((side) => [side.what, side.element, side.shape, side.axes.join("; "), side.values, side.offset ? "yes" : "no"])}
      />
      <h3>Axes in the clear</h3>
      <Table name="Axes in the clear" head={["Where", "Size", "Why", "By whom"]} rows={card.clear.map((axis) => [axis.where, axis.size, axis.reason, axis.allowedByOwner ? "the owner allowed it" : "inherent"])} />
      <h3>Keys</h3>
      <Table
        name="Keys"
        head={["Where", "Size", "Group", "Keys", "Bits", "Real parameters"]}
        rows={card.axes.map((axis) => [axis.where, axis.size, axis.group, axis.perPlace, axis.bits, axis.parameters])}
      />
      <h3>Attacks that were run</h3>
      {card.attacks.length > 0 ? <AttackTable name={card.name} attacks={card.attacks} /> : <p>None.</p>}
      {card.distances.length > 0 && (
        <>
          <h3>Distance from the public base model</h3>
          <Table name="Distances" head={["Constant", "Relative distance"]} rows={card.distances.map(({ constant, distance }) => [constant, percent(distance)])} />
        </>
      )}
    </section>
  );
}
