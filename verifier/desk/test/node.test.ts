/** The chain node: how often it is asked, and that nothing it answers is taken for more than it is. */

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, inject, test } from "vitest";
import { type ChainNode, httpNode, NodeError, type Report, verifyCertificate } from "../src/verify";
import { bytesOf, VECTORS } from "./vectors";

const certificate = bytesOf(join(VECTORS, "certificates/commit/certificate.json"));

function verify(node: ChainNode, data = certificate): Promise<Report> {
  return verifyCertificate(data, { allowDevelopmentChain: true, allowDevelopmentSrs: true, node });
}

function statusOf(report: Report, number: number): string | undefined {
  return report.steps.filter((step) => step.number === number).at(-1)?.status;
}

test("nothing is asked twice: two tasks under one anchor take one question each", async () => {
  const node = httpNode(inject("chains").certificates);
  const asked: string[] = [];
  const report = await verify({
    call: (method, params) => {
      asked.push(JSON.stringify([method, params]));
      return node.call(method, params);
    },
  });
  expect(report.result).toBe("valid");
  expect(new Set(asked).size).toBe(asked.length);
  expect(asked.length).toBeLessThanOrEqual(11);
});

describe("an answer that is none leaves steps open", () => {
  const METHODS = ["eth_chainId", "eth_getCode", "eth_call", "eth_getTransactionReceipt", "eth_getBlockByNumber"];
  const GARBAGE: unknown[] = [
    undefined,
    true,
    7,
    "",
    "0x",
    "0xzz",
    "0x1",
    [],
    {},
    { logs: {} },
    { hash: 3 },
    { status: "0x1", logs: [null] },
  ];

  test.each(METHODS)("%s", async (broken) => {
    const node = httpNode(inject("chains").certificates);
    for (const garbage of GARBAGE) {
      const report = await verify({
        call: (method, params) => (method === broken ? Promise.resolve(garbage) : node.call(method, params)),
      });
      expect(report.result, JSON.stringify(garbage)).not.toBe("valid");
      expect(report.steps.at(-1)?.status === "ok" || report.result === "not valid").toBe(true);
    }
  });

  test.each(METHODS)("%s fails", async (broken) => {
    const node = httpNode(inject("chains").certificates);
    for (const error of [new NodeError("no", "0x"), new NodeError("no", "0xdeadbeef"), new TypeError("fetch failed")]) {
      const report = await verify({
        call: (method, params) => (method === broken ? Promise.reject(error) : node.call(method, params)),
      });
      expect(report.result).toBe("undecided");
      expect(report.steps.at(-1)).toMatchObject({ number: 19, status: "ok" });
    }
  });
});

test("a node that is not there, or is no chain node, says nothing against a certificate", async () => {
  const server = createServer((_, answer) => answer.end("hello")).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  expect((await verify(httpNode(url))).result).toBe("undecided");
  await new Promise((resolve) => server.close(resolve));
  const report = await verify(httpNode(url));
  expect(report.result).toBe("undecided");
  expect([14, 15, 17].map((number) => statusOf(report, number))).toEqual(["unchecked", undefined, undefined]);
});

test("a node that redirects is not followed", async () => {
  const server = createServer((_, answer) => {
    answer.writeHead(307, { location: inject("chains").certificates }).end();
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const report = await verify(httpNode(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
  expect(report.result).toBe("undecided");
  server.close();
});
