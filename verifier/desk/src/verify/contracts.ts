/** The contracts of this version: their code, and where it puts them on every chain. As `contracts/addresses.py`. */

import { bytecode as certifierCode } from "../../../../contracts/abi/Certifier.json";
import { bytecode as logCode } from "../../../../contracts/abi/EvidenceLog.json";
import { bytecode as verifierCode } from "../../../../contracts/abi/Halo2VerifierReusable.json";
import { bytecode as registryCode } from "../../../../contracts/abi/ModelRegistry.json";
import { word } from "./abi";
import { type Address, checksummed, concat, type Digest, fromHex, keccak, sha256, toHex, utf8 } from "./bytes";
import type { Certificate } from "./certificate";
import { RexisError } from "./errors";

/** SHA-256 of the Solidity verifier's creation code, as `contracts/evm.py` pins it. */
const VERIFIER_CODE: Digest = "0x256a32407d656cf06107169294ba80e743f661ac7ef2b4a9567de07bec9a1c04";
// https://github.com/Arachnid/deterministic-deployment-proxy
const DEPLOYER: Address = "0x4e59b44847b379578588920cA78FbF26c0B4956C";
const SALT = sha256(utf8("rexis.contracts.v1\0"));

/** Creation code of the Solidity verifier; throws if the page was built with another one. */
export function pinnedVerifierCode(): Uint8Array {
  const code = fromHex(verifierCode);
  const found = toHex(sha256(code));
  if (found !== VERIFIER_CODE) throw new RexisError(`the page's Solidity verifier is ${found}, not ${VERIFIER_CODE}`);
  return code;
}

export interface Deployment {
  modelRegistry: Address;
  evidenceLog: Address;
  halo2Verifier: Address;
  certifier: Address;
}

/**
 * Where each contract stands: a hash of deployer, salt and init code, whose arguments are such addresses (EIP-1014).
 */
export const DEPLOYMENT: Deployment = (() => {
  const modelRegistry = create2(registryCode);
  const evidenceLog = create2(logCode, modelRegistry);
  const halo2Verifier = create2(verifierCode);
  return { modelRegistry, evidenceLog, halo2Verifier, certifier: create2(certifierCode, evidenceLog, halo2Verifier) };
})();

/** The deployment that a certificate names must be this version's. No node is asked. */
export function requireDeployment(certificate: Certificate): void {
  const named: [string, Address, Address][] = [
    ["domain.verifyingContract", certificate.domain.verifyingContract, DEPLOYMENT.evidenceLog],
    ["contracts.modelRegistry", certificate.contracts.modelRegistry, DEPLOYMENT.modelRegistry],
    ["contracts.certifier", certificate.contracts.certifier, DEPLOYMENT.certifier],
  ];
  for (const [field, found, expected] of named) {
    if (found !== expected) {
      throw new RexisError(`is ${found}, this version's contract stands at ${expected}`, {
        field,
        hint: "made with another version of rexis, or with contracts that somebody made up",
      });
    }
  }
}

/** Where the deployer puts a contract of this creation code, with constructor arguments of one word each. */
export function create2(code: string, ...given: (Address | number | bigint)[]): Address {
  const init = concat(fromHex(code), ...given.map((each) => word(each)));
  return checksummed(keccak(Uint8Array.of(0xff), fromHex(DEPLOYER), SALT, keccak(init)).subarray(12));
}
