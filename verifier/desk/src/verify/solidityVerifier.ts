/**
 * ezkl's Solidity verifier, as rexis deploys it, run in an EVM in the page; as `contracts/evm.py`.
 *
 * The code is the page's own, compiled from `contracts/src/vendor` and pinned by its digest; it is never fetched from a
 * chain. The EVM is EthereumJS's, with noble-curves for BN254 but for multiplications ({@link multiply}).
 */

import { Common, Hardfork, Mainnet } from "@ethereumjs/common";
import { createEVM, type EVM, EVMError, type ExecResult, type PrecompileInput } from "@ethereumjs/evm";
import { Address as EvmAddress } from "@ethereumjs/util";
import { type Argument, bytesArgument, encodeCall, word, wordsArgument } from "./abi";
import { isOnCurve, multiply } from "./bn254";
import { bigEndian, concat, type Digest, equal, fromHex, keccak, toBigInt, toHex, WORD } from "./bytes";
import { pinnedVerifierCode } from "./contracts";
import { UnavailableError } from "./errors";

// Measured: 0.6 to 1.5 M a proof. Ends what a stranger's VKA could make endless.
const GAS_LIMIT = 1n << 25n;
const MAX_PROOF_BYTES = 1 << 20;
const CALLER = new EvmAddress(new Uint8Array(20).fill(0x11));
const EC_MUL = new EvmAddress(bigEndian(7, 20));
const EC_MUL_GAS = 6000n; // EIP-1108

export interface SolidityVerifier {
  /** Whether a proof holds with these public instances, and nothing stands behind its end. */
  accepts(proof: Uint8Array, instances: readonly bigint[]): Promise<boolean>;
  /** The most gas that one proof took. */
  mostGas(): bigint;
}

type Register = (vka: readonly Digest[]) => Promise<SolidityVerifier>;

// This thread's one EVM, and the verifiers in it by the digests of their VKAs.
let deployed: Promise<Register> | undefined;
const registered = new Map<Digest, Promise<SolidityVerifier>>();

/**
 * The Solidity verifier with a circuit's VKA registered; that its digest is the pinned one is the caller's to check.
 */
export async function registerVka(vka: readonly Digest[]): Promise<SolidityVerifier> {
  deployed ??= deploy();
  const register = await deployed;
  const digest = toHex(keccak(...vka.map(fromHex)));
  const found = registered.get(digest) ?? register(vka);
  registered.set(digest, found);
  return found;
}

async function deploy(): Promise<Register> {
  // The one that the contract is compiled for; later ones make the EVM look rules up that it has no use for.
  const common = new Common({ chain: Mainnet, hardfork: Hardfork.Paris });
  const evm = await createEVM({ common, customPrecompiles: [{ address: EC_MUL, function: ecMul }] });
  const made = await evm.runCall({ caller: CALLER, data: pinnedVerifierCode(), gasLimit: GAS_LIMIT });
  if (!made.createdAddress || made.execResult.exceptionError)
    throw new UnavailableError("the EVM did not run the verifier");
  const contract = made.createdAddress;
  return (vka) => register(evm, contract, vka);
}

async function register(evm: EVM, contract: EvmAddress, vka: readonly Digest[]): Promise<SolidityVerifier> {
  const words = vka.map(fromHex);
  const digest = keccak(...words);
  const key = wordsArgument(words);
  const call = async (isStatic: boolean, data: Uint8Array): Promise<ExecResult> => {
    const { execResult } = await evm.runCall({ caller: CALLER, to: contract, data, gasLimit: GAS_LIMIT, isStatic });
    return execResult;
  };
  const answer = await call(false, encodeCall("registerVka(bytes32[])", key));
  if (answer.exceptionError || !equal(answer.returnValue, digest)) {
    throw new UnavailableError("the EVM did not register the VKA");
  }
  const expected = concat(word(1), digest);
  let gas = 0n;
  // What the contract reads of a proof depends on the VKA alone, so that all proofs that hold are of one length.
  let length: number | undefined;

  async function holds(proof: Uint8Array, instances: Argument): Promise<boolean> {
    const data = encodeCall("verifyProof(bytes,uint256[],bytes32[])", bytesArgument(proof), instances, key);
    const found = await call(true, data);
    if (found.executionGasUsed > gas) gas = found.executionGasUsed;
    return !found.exceptionError && equal(found.returnValue.subarray(0, 2 * WORD), expected);
  }

  return {
    async accepts(proof, instances) {
      if (proof.length <= WORD || proof.length > MAX_PROOF_BYTES || proof.length % WORD) return false;
      if (length !== undefined && proof.length !== length) return false;
      const argument = wordsArgument(instances.map(word));
      if (!(await holds(proof, argument))) return false;
      // The contract ignores what stands after a proof's end, which would make one proof many: a proof that holds
      // without its last word had bytes to spare.
      if (length === undefined && (await holds(proof.subarray(0, -WORD), argument))) return false;
      length = proof.length;
      return true;
    },
    mostGas: () => gas,
  };
}

/** EIP-196's multiplication, in a third of the time that EthereumJS's own takes. */
function ecMul(input: PrecompileInput): ExecResult {
  const data = new Uint8Array(3 * WORD);
  data.set(input.data.subarray(0, data.length));
  const [x = 0n, y = 0n, scalar = 0n] = [0, 1, 2].map((i) => toBigInt(data.subarray(i * WORD, (i + 1) * WORD)));
  const infinite = x === 0n && y === 0n;
  if (input.gasLimit < EC_MUL_GAS || !(infinite || isOnCurve([x, y]))) return failed(input);
  const [foundX, foundY] = (infinite ? null : multiply([x, y], scalar)) ?? [0n, 0n];
  return { executionGasUsed: EC_MUL_GAS, returnValue: concat(bigEndian(foundX, WORD), bigEndian(foundY, WORD)) };
}

function failed(input: PrecompileInput): ExecResult {
  return {
    executionGasUsed: input.gasLimit,
    returnValue: new Uint8Array(0),
    exceptionError: new EVMError(EVMError.errorMessages.OUT_OF_GAS),
  };
}
