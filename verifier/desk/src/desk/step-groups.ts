/** Steps of a job's many tasks share number and name, but for the records that they are about. */

import type { Step } from "../verify";

export const withoutRecords = (name: string): string => name.replace(/, records .*$/, "");

/** By number and name, in the order of their first steps. */
export function groupsOf(steps: readonly Step[]): Step[][] {
  const groups = new Map<string, Step[]>();
  for (const step of steps) {
    const key = `${step.number} ${withoutRecords(step.name)}`;
    const group = groups.get(key);
    if (group) group.push(step);
    else groups.set(key, [step]);
  }
  return [...groups.values()];
}
