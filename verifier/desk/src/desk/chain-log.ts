/** What the contracts wrote on chain, from a node that the auditor names; as `contracts/logs.py`. */

import { keccak_256 } from "@noble/hashes/sha3.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import events from "virtual:events";
import type { ChainNode } from "../verify";

export interface EventShape {
  contract: "ModelRegistry" | "EvidenceLog" | "Certifier";
  name: string;
  inputs: { name: string; type: string; indexed: boolean }[];
}

/** One event; values by their names in Solidity: `0x…` for digests and addresses, decimal for numbers. */
export interface Entry {
  name: string;
  block: number;
  position: number;
  transaction: string;
  values: Record<string, string>;
}

/** Nodes refuse to search many blocks at once; many refuse more than 1,000. */
const SPAN = 1000;
export const MAX_ENTRIES = 20_000;

const BY_TOPIC = new Map(events.map((event) => [topicOf(event), event]));

function topicOf(event: EventShape): string {
  const signature = `${event.name}(${event.inputs.map((input) => input.type).join(",")})`;
  return `0x${bytesToHex(keccak_256(utf8ToBytes(signature)))}`;
}

/** What our contracts wrote from block `first` on, in the chain's order; stops after {@link MAX_ENTRIES}. */
export async function entries(
  node: ChainNode,
  addresses: readonly string[],
  first: number,
  onProgress: (block: number, head: number) => void,
): Promise<Entry[]> {
  const head = Number(await node.call("eth_blockNumber", []));
  if (!Number.isSafeInteger(head)) throw new Error("the node does not say which block is its last");
  const found: Entry[] = [];
  for (let from = first; from <= head && found.length < MAX_ENTRIES; from += SPAN) {
    const to = Math.min(from + SPAN - 1, head);
    onProgress(from, head);
    const logs = await node.call("eth_getLogs", [
      { address: addresses, fromBlock: hex(from), toBlock: hex(to), topics: [[...BY_TOPIC.keys()]] },
    ]);
    if (!Array.isArray(logs)) throw new Error("the node's answer is no list of events");
    found.push(...logs.map(entryOf));
  }
  return found.sort((one, other) => one.block - other.block || one.position - other.position);
}

function entryOf(log: unknown): Entry {
  const { topics, data, blockNumber, logIndex, transactionHash } = log as Record<string, unknown>;
  if (!Array.isArray(topics) || !topics.every(isWord) || typeof data !== "string") throw new Error("the node's answer holds no event");
  const event = BY_TOPIC.get(topics[0] as string);
  if (event === undefined) throw new Error("the node answered with an event that was not asked for");
  const words = data.slice(2).match(/.{64}/g) ?? [];
  const rest = topics.slice(1) as string[];
  const values: Record<string, string> = {};
  for (const input of event.inputs) {
    const word = input.indexed ? rest.shift() : words.shift();
    if (word === undefined) throw new Error(`the node left something out of ${event.name}`);
    values[input.name] = valueOf(input.type, word.replace(/^0x/, ""));
  }
  return { name: event.name, block: Number(blockNumber), position: Number(logIndex), transaction: String(transactionHash), values };
}

const isWord = (topic: unknown): boolean => typeof topic === "string" && /^0x[0-9a-f]{64}$/.test(topic);

function valueOf(type: string, word: string): string {
  if (!/^[0-9a-f]{64}$/.test(word)) throw new Error("the node's answer holds something that is no word of an event");
  if (type === "bytes32") return `0x${word}`;
  return type === "address" ? `0x${word.slice(24)}` : BigInt(`0x${word}`).toString();
}

const hex = (block: number): string => `0x${block.toString(16)}`;
