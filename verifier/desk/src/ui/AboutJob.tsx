import type { Facts } from "../desk/facts";
import { Digest } from "./Digest";
import { Terms } from "./Terms";

/** What the certificate says it is about. That it is the job you mean, only you know. */
export function AboutJob({ facts, digest }: { facts: Facts; digest: string }) {
  const { training } = facts;
  return (
    <>
      <Terms
        of={[
          ["Kind", `${facts.kind}, tier ${facts.tier}, rung ${facts.rung}`],
          ["Records", `${facts.recordStart}–${facts.recordStart + facts.recordCount - 1} of ${facts.inputSize}, in ${facts.tasks} ${facts.tasks === 1 ? "task" : "tasks"}`],
          ["Job", <Digest value={facts.jobId} what="the job's id" whole />],
          ["Requester", <Digest value={facts.requester} what="the requester's address" whole />],
          ["Coordinator", <Digest value={facts.coordinator} what="the coordinator's address" whole />],
          ["Model", <Digest value={facts.model} what="the model's digest" whole />],
          ["Key epoch", facts.keyEpoch],
          ["Dataset", <Digest value={facts.dataset} what="the dataset's digest" whole />],
          ["Input root", <Digest value={facts.inputRoot} what="the input root" whole />],
          ["Issued", `${facts.issuedAt}, by the coordinator's clock`],
          ["This file", <Digest value={digest} what="the certificate's digest" whole />],
          ...(facts.development.length > 0 ? ([["Development", facts.development.join(" and ")]] as const) : []),
        ]}
      />
      {training && (
        <Terms
          of={[
            ["Trained model", <Digest value={training.made} what="the trained model's digest" whole />],
            ["Plan", `${training.steps} steps of ${training.batch} records with ${training.optimiser}, in ${training.segments} segments`],
            ["Transcript", <Digest value={training.transcript} what="the transcript's root" whole />],
          ]}
        />
      )}
    </>
  );
}
