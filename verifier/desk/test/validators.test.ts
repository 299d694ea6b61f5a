/** Step 28: Python's words on every vector about it, manifests, and a node that answers with something else. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, inject, test } from "vitest";
import { type ChainNode, httpNode, type Report, type Step, verifyCertificate } from "../src/verify";
import { readQuorum } from "../src/verify/accountability";
import { utf8 } from "../src/verify/bytes";
import { bytesOf, optionsOf, VECTORS, vectorsOf } from "./vectors";

const told = join(inject("folder"), "validators.json");
while (!existsSync(told)) await sleep(100);
const python = JSON.parse(readFileSync(told, "utf8")) as Record<string, [string, string][]>;
const quorums = inject("quorums");
const node = httpNode(inject("chains").certificates);

const ofValidators = (steps: Step[]): [string, string][] =>
  steps.filter(({ number }) => number === 28).map(({ status, detail }) => [status, detail]);

test.each(Object.keys(python))("%s: Python's words", async (name) => {
  const vector = vectorsOf("certificates").find((each) => each.name === name)!;
  const { steps } = await verifyCertificate(vector.documents[0]!.data, optionsOf(vector, inject("chains").certificates, quorums));
  expect(ofValidators(steps)).toEqual(python[name]);
});

test("there are such vectors, with every way in which the step ends", () => {
  const statuses = Object.values(python).flatMap((steps) => steps.map(([status]) => status));
  expect(new Set(statuses)).toEqual(new Set(["ok", "failed", "skipped", "unchecked"]));
});

describe("a manifest", () => {
  const good = quorums["validators"]!;

  test("names the quorum whose terms it has", () => {
    const { chainId, validatorQuorum } = JSON.parse(good) as { chainId: number; validatorQuorum: string };
    expect(readQuorum(utf8(good))).toEqual({ chainId, address: validatorQuorum });
    expect(new Set(Object.values(quorums).map((each) => JSON.stringify(readQuorum(utf8(each))))).size).toBe(4);
  });

  test.each([
    ["6666", "6667", "does not follow from the terms"],
    ['"validatorDelay":10', '"validatorDelay":11', "does not follow from the terms"],
    ['"validatorMinStake":"1', '"validatorMinStake":"2', "does not follow from the terms"],
    ["6666", "4999", "from 5000 to 9999"],
    ['"bond":"1"', '"bond":"01"', "not an amount"],
    ['"bond":"1"', `"bond":"${2n ** 128n}"`, "not an amount"],
    ['"chainId":31337', '"chainId":"31337"', "should be an integer"],
    ['"penalty":"1",', "", "not an amount"],
    ['"disputes":', '"dispute":', "not an address"],
    ["{", '{"more":1,', "Extra inputs"],
    ["{", "", "not JSON"],
  ])("with %s made %s is refused", (from, to, reason) => {
    const changed = good.replace(from, to);
    expect(changed).not.toBe(good);
    expect(() => readQuorum(utf8(changed))).toThrow(reason);
  });
});

describe("the node", () => {
  const certificate = bytesOf(join(VECTORS, "certificates/validators-found-valid/certificate.json"));
  const quorum = readQuorum(utf8(quorums["validators"]!));

  function verify(answer: (method: string, params: readonly unknown[], honest: () => Promise<unknown>) => unknown): Promise<Report> {
    const asked: ChainNode = {
      call: async (method, params) => answer(method, params, () => node.call(method, params)),
    };
    return verifyCertificate(certificate, { allowDevelopmentChain: true, allowDevelopmentSrs: true, node: asked, quorum });
  }

  type Log = { address: string; topics: string[]; data: string };
  const changing = (change: (log: Log) => unknown): Promise<Report> =>
    verify(async (method, _, honest) => (method === "eth_getLogs" ? ((await honest()) as Log[]).map(change) : honest()));

  test.each<[string, (log: Log) => unknown]>([
    ["of another contract", (log) => ({ ...log, address: `0x${"1".repeat(40)}` })],
    ["about another statement", ({ topics: [event, , verdict], ...log }) => ({ ...log, topics: [event, `0x${"1".repeat(64)}`, verdict] })],
    ["with a verdict that there is not", ({ topics: [event, statement], ...log }) => ({ ...log, topics: [event, statement, `0x${"3".padStart(64, "0")}`] })],
    ["cut short", ({ data, ...log }) => ({ ...log, data: data.slice(0, -64) })],
    ["that is none", () => 7],
  ])("an event %s leaves the step open", async (_, change) => {
    const { result, steps } = await changing(change);
    expect(result).toBe("undecided");
    expect(ofValidators(steps)).toEqual([["unchecked", "the chain node's answer cannot be used"]]);
  });

  test.each([["eth_getLogs", null], ["eth_getLogs", {}], ["eth_blockNumber", "1"], ["eth_blockNumber", null]])(
    "%s answered with %j leaves the step open",
    async (broken, garbage) => {
      const { result, steps } = await verify((method, _, honest) => (method === broken ? garbage : honest()));
      expect(result).toBe("undecided");
      expect(ofValidators(steps).map(([status]) => status)).toEqual(["unchecked"]);
    },
  );

  test("blocks are searched from the anchor's on, a thousand at once, until there is a verdict", async () => {
    const ranges: [number, number][] = [];
    const head = 2500;
    const { steps } = await verify(async (method, params, honest) => {
      if (method === "eth_blockNumber") return `0x${head.toString(16)}`;
      if (method !== "eth_getLogs") return honest();
      const [{ fromBlock, toBlock }] = params as [{ fromBlock: string; toBlock: string }];
      ranges.push([Number(fromBlock), Number(toBlock)]);
      return [];
    });
    const [first] = ranges[0]!;
    expect(ranges).toEqual([[first, first + 999], [first + 1000, first + 1999], [first + 2000, head]]);
    expect(ofValidators(steps)[0]![1]).toContain("since its anchor");
  });
});
