/**
 * Steps 14 to 18, and 28: what the certificate says of the chain, against a node that the auditor chose. As
 * `verifier/chain.py`.
 */

import type { Quorum } from "./accountability";
import { decodeWords, encodeCall, numberOf, selector, topic, word } from "./abi";
import { type Address, checksummed, type Digest, fromHex, type Hex, toHex } from "./bytes";
import type { Certificate, Place } from "./certificate";
import { DEPLOYMENT } from "./contracts";
import { RexisError, UnavailableError } from "./errors";
import { type ChainNode, NodeError } from "./node";
import { passed, type Verdict } from "./report";
import { Circuit, isNone, statementDigest } from "./statement";
import { checkValidators, leaveOutValidators } from "./validators";

export const DEPLOYMENT_STEP = 14;
const [MODEL, COMMITMENTS, ANCHORS, CERTIFICATION] = [15, 16, 17, 18];

const UNKNOWN = {
  UnknownAttempt: "UnknownAttempt(address,bytes32,uint32)",
  UnknownAnchor: "UnknownAnchor(uint256)",
} as const;
const COMMITTED = topic("Committed(address,bytes32,bytes32,uint32)");
const ANCHORED = topic("Anchored(uint256,bytes32,address,uint64)");
const VERDICT_RECORDED = topic("VerdictRecorded(bytes32,uint8,uint256,uint256,uint256)");
const RECORD_CERTIFIED = topic("RecordCertified(bytes32,uint64,address)");

/** Whether a statement was found valid, by the contract's words for it. */
const FINDINGS = new Map([
  [toHex(word(1)), true],
  [toHex(word(2)), false],
]);
/** Nodes refuse to search many blocks at once; many refuse more than 1,000. */
const BLOCKS_AT_ONCE = 1000;

/** Take the chain steps; stops where the node is out of reach. */
export async function checkChain(
  certificate: Certificate,
  places: readonly Place[],
  node: ChainNode,
  quorum: Quorum | undefined,
  verdict: Verdict,
): Promise<void> {
  const chain = new Chain(node);
  const connected = await verdict.step(DEPLOYMENT_STEP, "deployment on chain", async () =>
    passed(await checkDeployed(certificate, chain)),
  );
  if (!connected) return;
  const steps: [
    number,
    string,
    (certificate: Certificate, places: readonly Place[], chain: Chain) => Promise<string>,
  ][] = [
    [MODEL, "model registered on chain", checkModel],
    [COMMITMENTS, "commitments and their blocks", checkCommitments],
    [ANCHORS, "anchors on chain", checkAnchors],
    [CERTIFICATION, "on-chain certification", checkCertification],
  ];
  for (const [number, name, check] of steps) {
    await verdict.step(number, name, async () => passed(await check(certificate, places, chain)));
  }
  if (!leaveOutValidators(certificate, { offline: false, quorum }, verdict) && quorum) {
    await checkValidators(certificate, places, chain, quorum, verdict);
  }
}

/** 14: the node is on the certificate's chain, and has the contracts. */
async function checkDeployed(certificate: Certificate, chain: Chain): Promise<string> {
  const found = await chain.id();
  const wanted = certificate.domain.chainId;
  if (found !== wanted) {
    throw new RexisError(`the node is on chain ${found}, the certificate is for chain ${wanted}`, {
      field: "domain.chainId",
    });
  }
  for (const [name, at] of Object.entries(DEPLOYMENT) as [string, Address][]) {
    if (!(await chain.hasCode(at))) {
      throw new RexisError(`no ${name} at ${at} on chain ${found}`, {
        hint: "deployed by another version of rexis, or not yet: see `rexis deploy`",
      });
    }
  }
  return `chain ${found} has them`;
}

/**
 * 15: registered with this circuit before the first anchor, not revoked by the last; who registered it claimed the
 * rung.
 */
async function checkModel(certificate: Certificate, places: readonly Place[], chain: Chain): Promise<string> {
  const { request, rungClaim } = certificate;
  const found = await chain.registration(request.modelDigest, request.keyEpoch);
  const blocks = places.map((place) => place.anchor.blockNumber);
  const [first, last] = blocks.reduce(
    ([low, high], block) => [Math.min(low, block), Math.max(high, block)],
    [Infinity, 0],
  );
  const field = "request.modelDigest";
  if (found.registeredAt > first) {
    throw new RexisError(`registered in block ${found.registeredAt}, after an anchor in block ${first}`, { field });
  }
  if (found.revokedAt !== 0 && found.revokedAt <= last) {
    throw new RexisError(`revoked in block ${found.revokedAt}, before an anchor in block ${last}`, { field });
  }
  if (!isNone(request.circuit) && found.circuitHash !== Circuit.hash(request.circuit)) {
    throw new RexisError("another circuit is registered for this model and epoch", { field: "request.circuit" });
  }
  if (rungClaim && rungClaim.claim.owner !== found.registrant) {
    throw new RexisError(`${rungClaim.claim.owner} claims the rung, ${found.registrant} registered the model`, {
      field: "rungClaim.claim.owner",
    });
  }
  const later = found.revokedAt ? `; revoked later, in block ${found.revokedAt}` : "";
  const owner = await chain.owner(request.modelDigest);
  const handedOver = owner === found.registrant ? "" : `; the model is ${owner}'s now`;
  return `by ${found.registrant} in block ${found.registeredAt}, epoch ${request.keyEpoch}${later}${handedOver}`;
}

/** 16: the log has each commitment, in that block, attempt and transaction; block b+1 has the hash that drew. */
async function checkCommitments(certificate: Certificate, places: readonly Place[], chain: Chain): Promise<string> {
  if (certificate.request.policy.tier !== "sampled") return "none: the tier has no challenge";
  const { coordinator } = certificate.request;
  for (const { where: task, statement, commitment } of places) {
    const where = `${task}commitment`;
    if (commitment === null) throw new RexisError("is missing", { field: where });
    const found = await chain.commitment(coordinator, statement.taskId, commitment.attempt);
    if (found.statementDigest !== statementDigest(statement, certificate.domain)) {
      throw new RexisError(
        `attempt ${commitment.attempt} on chain commits to ${found.statementDigest}, another statement`,
        { field: where },
      );
    }
    if (found.block !== commitment.blockNumber) {
      throw new RexisError(`is in block ${found.block}, not ${commitment.blockNumber}`, {
        field: `${where}.blockNumber`,
      });
    }
    await requireBlock(chain, commitment.blockNumber + 1, commitment.challengeBlockHash, `${where}.challengeBlockHash`);
    await chain.requireEvent(commitment.transaction, commitment.blockNumber, where, "Committed", {
      at: DEPLOYMENT.evidenceLog,
      topics: [COMMITTED, toHex(word(coordinator)), statement.taskId, found.statementDigest],
      data: [toHex(word(commitment.attempt))],
    });
  }
  return `${places.length} commitments and their challenge blocks are the chain's`;
}

/** 17: the log has each anchor, from the request's coordinator, after the commitment it anchors. */
async function checkAnchors(certificate: Certificate, places: readonly Place[], chain: Chain): Promise<string> {
  const { coordinator } = certificate.request;
  for (const { where: task, anchor, commitment, openingBlockHash } of places) {
    const where = `${task}anchor`;
    const found = await chain.anchor(anchor.anchorId);
    const compared: [string, string | number, string | number][] = [
      ["root", anchor.root, found.root],
      ["size", anchor.size, found.size],
      ["blockNumber", anchor.blockNumber, found.block],
      ["submitter", coordinator, found.submitter],
    ];
    for (const [name, here, there] of compared) {
      if (here !== there) throw new RexisError(`is ${here}, on chain it is ${there}`, { field: `${where}.${name}` });
    }
    if (commitment !== null && commitment.blockNumber >= found.block) {
      throw new RexisError("was anchored before its challenge could be known", { field: where });
    }
    await chain.requireEvent(anchor.transaction, anchor.blockNumber, where, "Anchored", {
      at: DEPLOYMENT.evidenceLog,
      topics: [ANCHORED, toHex(word(anchor.anchorId)), null, toHex(word(coordinator))],
      data: [],
    });
    if (openingBlockHash !== null) {
      await requireBlock(chain, found.block + 1, openingBlockHash, `${task}openingBlockHash`);
    }
  }
  return `${places.length} statements stand under roots that ${coordinator} anchored`;
}

/** 18: the Certifier accepted every record of every task, if the policy asked for it. */
async function checkCertification(certificate: Certificate, places: readonly Place[], chain: Chain): Promise<string> {
  if (!certificate.request.policy.certifyOnChain) return "not asked for by the policy";
  for (const { where: task, statement, certified } of places) {
    const where = `${task}certified`;
    const digest = statementDigest(statement, certificate.domain);
    if (!(await chain.isCertified(digest))) {
      const done = await chain.certifiedCount(digest);
      throw new RexisError(`the Certifier accepted ${done} of ${statement.recordCount} records`, { field: where });
    }
    for (const [offset, transaction] of certified.entries()) {
      await chain.requireEvent(transaction, null, where, "RecordCertified", {
        at: DEPLOYMENT.certifier,
        topics: [RECORD_CERTIFIED, digest, toHex(word(statement.recordStart + offset))],
        data: [],
      });
    }
  }
  return `the Certifier at ${DEPLOYMENT.certifier} accepted every record`;
}

async function requireBlock(chain: Chain, number: number, claimed: Digest, field: string): Promise<void> {
  const found = await chain.blockHash(number);
  if (found !== claimed) throw new RexisError(`block ${number} has hash ${found}, not ${claimed}`, { field });
}

/** An event that one of our contracts wrote; a topic that is null may be any. */
interface Wanted {
  at: Address;
  topics: readonly (Hex | null)[];
  /** The first words of its data. */
  data: readonly Hex[];
}

interface Receipt {
  status: unknown;
  block: number;
  logs: Log[];
}

interface Log {
  address: string;
  topics: readonly Hex[];
  data: Hex;
}

/** What a ValidatorQuorum wrote down of a statement. */
export interface RecordedVerdict {
  valid: boolean;
  /** How many signed it. */
  signers: number;
  /** What these had at stake then, and what all validators had. */
  stake: bigint;
  active: bigint;
  transaction: Digest;
}

/**
 * Typed reads of the contracts. What has been asked is not asked again: tasks share anchors, blocks and transactions.
 */
export class Chain {
  private readonly answers = new Map<string, Promise<unknown>>();

  constructor(private readonly node: ChainNode) {}

  async id(): Promise<number> {
    return toNumber(await this.ask("eth_chainId", []));
  }

  async hasCode(at: Address): Promise<boolean> {
    return toText(await this.ask("eth_getCode", [at, "latest"])) !== "0x";
  }

  async registration(
    model: Digest,
    epoch: number,
  ): Promise<{
    registrant: Address;
    registeredAt: number;
    revokedAt: number;
    circuitHash: Digest;
  }> {
    const call = encodeCall("get(bytes32,uint64)", fromHex(model), word(epoch));
    const [registrant, registered, revoked, circuitHash] = await this.read(DEPLOYMENT.modelRegistry, call, 6);
    const registeredAt = numberOf(registered);
    if (registeredAt === 0) throw new RexisError(`model ${model} is not registered for key epoch ${epoch}`);
    return { registrant: addressOf(registrant), registeredAt, revokedAt: numberOf(revoked), circuitHash };
  }

  async owner(model: Digest): Promise<Address> {
    const [found] = await this.read(DEPLOYMENT.modelRegistry, encodeCall("ownerOf(bytes32)", fromHex(model)), 1);
    return addressOf(found);
  }

  async commitment(
    submitter: Address,
    task: Digest,
    attempt: number,
  ): Promise<{ statementDigest: Digest; block: number }> {
    const call = encodeCall("commitmentOf(address,bytes32,uint32)", word(submitter), fromHex(task), word(attempt));
    const [statementDigest, block] = await this.read(DEPLOYMENT.evidenceLog, call, 2, "UnknownAttempt");
    return { statementDigest, block: numberOf(block) };
  }

  async anchor(id: number): Promise<{ root: Digest; size: number; block: number; submitter: Address }> {
    const call = encodeCall("anchorOf(uint256)", word(id));
    const [root, size, block, submitter] = await this.read(DEPLOYMENT.evidenceLog, call, 4, "UnknownAnchor");
    return { root, size: numberOf(size), block: numberOf(block), submitter: addressOf(submitter) };
  }

  async isCertified(digest: Digest): Promise<boolean> {
    const [found] = await this.read(DEPLOYMENT.certifier, encodeCall("isCertified(bytes32)", fromHex(digest)), 1);
    return numberOf(found) === 1;
  }

  async certifiedCount(digest: Digest): Promise<number> {
    const [found] = await this.read(DEPLOYMENT.certifier, encodeCall("certifiedCount(bytes32)", fromHex(digest)), 1);
    return numberOf(found);
  }

  /** What a quorum wrote down of a statement, if it did since a block; as `find_verdict` of `contracts/accountable.py`. */
  async verdict(quorum: Address, digest: Digest, since: number): Promise<RecordedVerdict | null> {
    const [known] = await this.read(quorum, encodeCall("verdictOf(bytes32)", fromHex(digest)), 1);
    if (numberOf(known) === 0) return null;
    const newest = toNumber(await this.ask("eth_blockNumber", []));
    for (let first = since; first <= newest; first += BLOCKS_AT_ONCE) {
      const last = Math.min(first + BLOCKS_AT_ONCE - 1, newest);
      const blocks = { fromBlock: quantity(first), toBlock: quantity(last) };
      const topics = [VERDICT_RECORDED, digest];
      const logs = await this.ask("eth_getLogs", [{ address: quorum, ...blocks, topics }]);
      if (!Array.isArray(logs)) throw unusable();
      if (logs.length > 0) return recordedVerdict(logs[0], quorum, digest);
    }
    return null;
  }

  async blockHash(number: number): Promise<Digest> {
    const found = await this.ask("eth_getBlockByNumber", [quantity(number), false]);
    if (found === null) {
      throw new UnavailableError(`the chain node does not have block ${number}`, { hint: "is it synchronised?" });
    }
    return toText(member(found, "hash"));
  }

  /** The transaction is mined, did not revert, and wrote this event, in this block. */
  async requireEvent(
    transaction: Digest,
    block: number | null,
    where: string,
    name: string,
    wanted: Wanted,
  ): Promise<void> {
    const receipt = await this.receipt(transaction);
    const wrote = receipt.logs.some(
      (log) =>
        log.address.toLowerCase() === wanted.at.toLowerCase() &&
        wanted.topics.every((each, i) => each === null || log.topics[i] === each) &&
        wanted.data.every((each, i) => decodeWords(log.data, i + 1)?.[i] === each),
    );
    if (!wrote) throw new RexisError(`transaction ${transaction} wrote no such ${name}`);
    if (block !== null && receipt.block !== block) {
      throw new RexisError(`transaction is in block ${receipt.block}, not ${block}`, { field: `${where}.transaction` });
    }
  }

  private async receipt(transaction: Digest): Promise<Receipt> {
    const found = await this.ask("eth_getTransactionReceipt", [transaction]);
    if (found === null) throw new RexisError(`no transaction ${transaction} on this chain`);
    if (member(found, "transactionHash") !== transaction) {
      throw new UnavailableError("the chain node answers with another transaction");
    }
    if (member(found, "status") !== "0x1") throw new RexisError(`transaction ${transaction} reverted`);
    const logs = member(found, "logs");
    if (!Array.isArray(logs)) throw unusable();
    return { status: "0x1", block: toNumber(member(found, "blockNumber")), logs: logs.map(toLog) };
  }

  /** Call a view. A revert with the error `missing` says that there is no such thing; our views have no other. */
  private async read(to: Address, data: Uint8Array, words: number, missing?: keyof typeof UNKNOWN): Promise<Words> {
    let answer: unknown;
    try {
      answer = await this.ask("eth_call", [{ to, data: toHex(data) }, "latest"]);
    } catch (error) {
      const revert =
        error instanceof UnavailableError && error.cause instanceof NodeError ? error.cause.data : undefined;
      if (missing && revert?.startsWith(toHex(selector(UNKNOWN[missing]))))
        throw new RexisError(`not on chain: ${missing}`);
      throw error;
    }
    const found = decodeWords(toText(answer), words);
    if (!found) throw unusable();
    return found as unknown as Words;
  }

  private ask(method: string, params: readonly unknown[]): Promise<unknown> {
    const key = JSON.stringify([method, params]);
    const known =
      this.answers.get(key) ??
      this.node.call(method, params).catch((error: unknown) => {
        const said = error instanceof NodeError ? `the chain node refused: ${error.message}` : "no chain node answers";
        const failure = new UnavailableError(said, { hint: "is the node running?" });
        failure.cause = error;
        throw failure;
      });
    this.answers.set(key, known);
    return known;
  }
}

function toLog(log: unknown): Log {
  const topics = member(log, "topics");
  if (!Array.isArray(topics)) throw unusable();
  return { address: toText(member(log, "address")), topics: topics.map(toText), data: toText(member(log, "data")) };
}

function recordedVerdict(log: unknown, quorum: Address, digest: Digest): RecordedVerdict {
  const { address, topics, data } = toLog(log);
  const [event, statement, verdict] = topics;
  const finding = FINDINGS.get(verdict ?? "");
  const words = decodeWords(data, 3);
  const ours = address === quorum.toLowerCase() && event === VERDICT_RECORDED && statement === digest;
  const transaction = toText(member(log, "transactionHash"));
  if (!ours || finding === undefined || !words || transaction.length !== digest.length) throw unusable();
  const [signers, stake, active] = words.map(BigInt) as [bigint, bigint, bigint];
  return { valid: finding, signers: signers.toString(2).replaceAll("0", "").length, stake, active, transaction };
}

/** As many words as were asked for; what a caller takes out beyond them is undefined in no case. */
type Words = readonly [Hex, Hex, Hex, Hex, Hex, Hex];

function addressOf(found: Hex): Address {
  return checksummed(fromHex(found).subarray(12));
}

function quantity(value: number): string {
  return `0x${value.toString(16)}`;
}

function member(of: unknown, name: string): unknown {
  if (typeof of !== "object" || of === null) throw unusable();
  return (of as Record<string, unknown>)[name];
}

/** Hexadecimal text; a node may answer with anything. */
function toText(value: unknown): Hex {
  if (typeof value !== "string" || !/^0x(?:[0-9a-fA-F]{2})*$/.test(value)) throw unusable();
  return value.toLowerCase();
}

function toNumber(value: unknown): number {
  if (typeof value !== "string" || !/^0x[0-9a-f]{1,13}$/.test(value)) throw unusable();
  return Number(value);
}

function unusable(): UnavailableError {
  return new UnavailableError("the chain node's answer cannot be used", { hint: "is it a chain node?" });
}
