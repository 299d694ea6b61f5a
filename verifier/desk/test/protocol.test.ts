/** The vectors of the protocol, which Python and Solidity share; and what parsing refuses. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { checksummed, type Digest, fromHex, type Hex, toHex } from "../src/verify/bytes";
import { canonical, floatText, parseJson } from "../src/verify/json";
import { checkInclusion, leafHash, merkleRoot } from "../src/verify/merkle";
import { instancesOf, leafData, type LeafFormat, outputSalt } from "../src/verify/records";
import { jobLogSurvival, logSurvival, survival } from "../src/verify/sampling";
import { recover } from "../src/verify/signing";
import { Circuit, jobId, type JobRequest, Policy, Statement, statementDigest, taskId } from "../src/verify/statement";
import { type Domain, separator } from "../src/verify/typedData";
import { VECTORS } from "./vectors";

function load<T>(name: string): T {
  return JSON.parse(readFileSync(join(VECTORS, "protocol", `${name}.json`), "utf8")) as T;
}

interface Signed {
  chainId: number;
  verifyingContract: string;
}

interface RequestCase extends Signed {
  abi: Hex;
  jobId: Digest;
  policyDigest: Digest;
}

interface StatementCase extends Signed {
  digest: Digest;
  statement: unknown;
  domainSeparator: Digest;
  circuitHash: Digest;
  structHash: Digest;
  taskId: Digest;
  worker: string;
  signature: Hex;
}

function domainOf({ chainId, verifyingContract }: Signed): Domain {
  return { chainId, verifyingContract };
}

describe("typed data", () => {
  test.each(load<{ cases: StatementCase[] }>("statements").cases)("statement $digest", (each) => {
    const statement = Statement.read(parseJson(JSON.stringify(each.statement)), "");
    expect(separator(domainOf(each))).toBe(each.domainSeparator);
    expect(Circuit.hash(statement.circuit)).toBe(each.circuitHash);
    expect(Statement.hash(statement)).toBe(each.structHash);
    expect(statementDigest(statement, domainOf(each))).toBe(each.digest);
    expect(taskId(statement.jobId, statement.recordStart, statement.recordCount)).toBe(each.taskId);
    expect(recover(each.digest, each.signature)).toBe(each.worker);
  });

  test.each(load<{ cases: RequestCase[] }>("requests").cases)("request $jobId", (each) => {
    const request = requestOf(each.abi);
    expect(jobId(request, domainOf(each))).toBe(each.jobId);
    expect(Policy.hash(request.policy)).toBe(each.policyDigest);
  });
});

/** A request from its words: Solidity's encoding of it has no others. */
function requestOf(abi: Hex): JobRequest {
  const words = fromHex(abi);
  let at = 0;
  const word = (): Digest => toHex(words.subarray(at, (at += 32)));
  const number = (): number => Number(word());
  const address = (): string => checksummed(fromHex(word()).subarray(12));
  const name = <T>(...names: T[]): T => names[number()] as T;
  return {
    kind: name("evaluation", "evaluation", "training"),
    modelDigest: word(),
    keyEpoch: number(),
    circuit: {
      vkDigest: word(),
      vkaDigest: word(),
      srsDigest: word(),
      settingsDigest: word(),
      visibility: name("none", "public", "hashed"),
      inputScale: number(),
      outputScale: number(),
      inputLength: number(),
      outputLength: number(),
    },
    datasetDigest: word(),
    inputRoot: word(),
    inputSize: number(),
    recordStart: number(),
    recordCount: number(),
    policy: {
      tier: name("commit", "commit", "sampled", "zk"),
      sampleSize: number(),
      shardSize: number(),
      maxAttempts: number(),
      absToleranceE9: number(),
      relToleranceE9: number(),
      rung: name("ee-outsourced", "ee-outsourced", "ee-private-weights", "zk-onsite"),
      validators: number(),
      certifyOnChain: number() === 1,
    },
    requester: address(),
    coordinator: address(),
    nonce: word(),
  };
}

describe("Merkle trees", () => {
  interface Tree {
    size: number;
    leaves: Hex[];
    root: Digest;
    paths: Digest[][];
  }
  interface Bad {
    root: Digest;
    size: number;
    index: number;
    leaf: Hex;
    path: Digest[];
    why: string;
  }
  const { trees, bad } = load<{ trees: Tree[]; bad: Bad[] }>("merkle");

  test.each(trees)("of $size leaves", ({ size, leaves, root, paths }) => {
    expect(merkleRoot(leaves.map(fromHex))).toBe(root);
    paths.forEach((path, index) => checkInclusion(root, size, index, fromHex(leaves[index] ?? "0x"), path));
  });

  test.each(bad)("$why of $size", ({ root, size, index, leaf, path }) => {
    expect(() => checkInclusion(root, size, index, fromHex(leaf), path)).toThrow();
  });
});

describe("records", () => {
  interface Leaf {
    side: 0 | 1;
    encoding: 0 | 1 | 2;
    scale: number;
    salt: Digest;
    integers: string[];
    instances: Digest[];
    payload: Hex;
    leafData: Hex;
    leafHash: Digest;
    outputSalt: Digest;
  }

  test.each(load<{ cases: Leaf[] }>("records").cases)("$leafHash", (each) => {
    const format: LeafFormat = {
      side: (["input", "output"] as const)[each.side],
      encoding: (["float32", "fixed", "hash"] as const)[each.encoding],
      scale: each.scale,
    };
    const payload = fromHex(each.payload);
    const data = leafData(format, fromHex(each.salt), payload);
    expect(toHex(data)).toBe(each.leafData);
    expect(toHex(leafHash(data))).toBe(each.leafHash);
    expect(toHex(outputSalt(fromHex(each.salt)))).toBe(each.outputSalt);
    expect(instancesOf(payload, false)).toEqual(each.instances.map(BigInt));
  });
});

describe("JSON", () => {
  test.each([
    ['{"a":1,"a":1}', "duplicate key 'a'"],
    ["1.5", "not an integer"],
    ["1e3", "not an integer"],
    ["NaN", "not an integer"],
    ["-0", "not canonical"],
    ["9007199254740993", "beyond 2^53-1"],
    ["9007199254740992", "beyond 2^53-1"],
    [`${"[".repeat(33)}${"]".repeat(33)}`, "nested deeper"],
    ["[1,]", "expecting a value"],
    ['{"a" 1}', "expecting ':'"],
    ["[1] [2]", "extra data"],
    ['"\u0001"', "control character"],
    ['"\\x"', "bad escape"],
    ['"open', "unterminated"],
    ["", "expecting a value"],
  ])("refuses %s", (text, why) => {
    expect(() => parseJson(text)).toThrow(why);
  });

  test("keys that JavaScript treats apart are keys like others", () => {
    const text = '{"__proto__":{"a":1},"constructor":2}';
    expect(canonical(parseJson(text))).toBe(text);
    expect(() => parseJson('{"__proto__":1,"__proto__":2}')).toThrow("duplicate");
  });

  test("is written as Python writes it", () => {
    const text = String.raw`["\u007f\u00e9\ud83d\ude00\"\\\b\f\n\r\t\u0000/",{"":1,"\ue000":2,"\ud83d\ude00":3}]`;
    expect(canonical(parseJson(text))).toBe(text);
  });

  // What `repr` gives.
  test.each([
    [1, "1.0"],
    [0.1, "0.1"],
    [1e-4, "0.0001"],
    [1e-5, "1e-05"],
    [2.220446049250313e-16, "2.220446049250313e-16"],
    [123456789012345680, "1.2345678901234568e+17"],
    [1e16, "1e+16"],
    [9007199254740993, "9007199254740992.0"],
    [-1.5e-7, "-1.5e-07"],
    [-0, "-0.0"],
    [1e22, "1e+22"],
    [0.30000000000000004, "0.30000000000000004"],
  ])("float %d", (value, text) => {
    expect(floatText(value)).toBe(text);
  });
});

describe("what a sample shows", () => {
  // From rexis.protocol.sampling.
  test.each([
    [6, 1, 2, 1, 0.6666666666666666],
    [6, 3, 2, 1, 0.2],
    [10000, 100, 44, 1, 0.6419960503721122],
    [10000, 100, 44, 3, 0.9541157693829202],
    [10000, 5000, 44, 1, 5.169116309912122e-14],
    [1048576, 524288, 30, 2, 1.8618725716660263e-9],
    [1048576, 1049, 5000, 1, 0.006627690483865095],
    [4, 4, 2, 1, 0.0],
    [1000, 1, 1000, 1, 0.0],
  ])("%d records, %d altered, %d drawn, %d attempts", (records, altered, sample, attempts, expected) => {
    expect(survival(records, altered, sample, attempts)).toBeCloseTo(expected, 14);
    if (expected > 0) expect(logSurvival(records, altered, sample, attempts)).toBeCloseTo(Math.log(expected), 7);
  });

  test.each([
    [10000, 1000, 100, 44, 1, -4.520583063458617],
    [10500, 1000, 1050, 44, 2, -42.95403569751293],
    [10100, 1000, 101, 5, 1, -0.5085932514839443],
    [7, 10, 2, 3, 1, -1.252762968495368],
    [1048576, 4096, 10486, 100, 1, -260.471433646504],
  ])("a job of %d in tasks of %d, %d altered, %d drawn", (records, shard, altered, sample, attempts, expected) => {
    expect(jobLogSurvival(records, shard, altered, sample, attempts)).toBeCloseTo(expected, 7);
  });
});
