/** EIP-712 typed structured data, as `rexis/protocol/typed_data.py`: one description reads a struct and hashes it. */

import { type Address, bigEndian, concat, type Digest, fromHex, keccak, toHex, utf8, WORD } from "./bytes";
import { address, digest, flag, object, oneOf, type Read, type Reader, uint16, uint32, uint64, uint8 } from "./schema";

/** A member of a struct: how it is read, its Solidity type, and the 32 bytes that it is hashed as. */
export interface Member<T> {
  read: Reader<T>;
  type: string;
  word(value: T): Uint8Array;
  /** If it is a struct itself: its type string and those that it refers to, by name. */
  types: Map<string, string>;
}

type Members = Record<string, Member<unknown>>;
type Value<M> = M extends Member<infer T> ? T : never;

export interface Struct<T> extends Member<T> {
  /** `encodeType`: this struct, then the structs it refers to, sorted by name. */
  typeString: string;
  /** `hashStruct(s) = keccak256(typeHash ‖ encodeData(s))`. */
  hash(value: T): Digest;
}

function member<T>(read: Reader<T>, type: string, word: (value: T) => Uint8Array): Member<T> {
  return { read, type, word, types: new Map() };
}

const number = (value: number): Uint8Array => bigEndian(value, WORD);

export const Uint8 = member(uint8, "uint8", number);
export const Uint16 = member(uint16, "uint16", number);
export const Uint32 = member(uint32, "uint32", number);
export const Uint64 = member(uint64, "uint64", number);
export const Bool = member(flag, "bool", (value) => number(value ? 1 : 0));
export const Bytes32 = member(digest, "bytes32", fromHex);
export const AddressMember = member(address, "address", (value: Address) => bigEndian(BigInt(value), WORD));

/** The same member, within narrower bounds. */
export function narrowed<T>(of: Member<T>, read: Reader<T>): Member<T> {
  return { ...of, read };
}

/** An enumeration: written by name, hashed as the `uint8` that the name stands for. */
export function enumeration<N extends string>(numbers: Readonly<Record<N, number>>): Member<N> {
  const names = Object.keys(numbers) as N[];
  return member(oneOf(...names), "uint8", (name) => number(numbers[name]));
}

/** A struct of these members, in this order; `check` looks at how they go together. */
export function struct<M extends Members>(
  name: string,
  members: M,
  check?: (value: { readonly [K in keyof M]: Value<M[K]> }, path: string) => void,
): Struct<{ readonly [K in keyof M]: Value<M[K]> }> {
  type T = { readonly [K in keyof M]: Value<M[K]> };
  const entries = Object.entries(members) as [keyof M & string, Member<unknown>][];
  const own = `${name}(${entries.map(([key, each]) => `${each.type} ${key}`).join(",")})`;
  const nested = new Map(entries.flatMap(([, each]) => [...each.types]));
  const typeString =
    own +
    [...nested.keys()]
      .sort()
      .map((key) => nested.get(key))
      .join("");
  const typeHash = keccak(utf8(typeString));
  const fields = Object.fromEntries(entries.map(([key, each]) => [key, each.read])) as Record<string, Reader<unknown>>;
  const read = object(fields, check as (value: Record<string, unknown>, path: string) => void) as Reader<T>;
  const word = (value: T): Uint8Array =>
    keccak(concat(typeHash, ...entries.map(([key, each]) => each.word(value[key]))));
  return {
    read,
    type: name,
    word,
    types: new Map([[name, own], ...nested]),
    typeString,
    hash: (value) => toHex(word(value)),
  };
}

const readDomain = object({ chainId: uint64, verifyingContract: address });

/** Which chain and which EvidenceLog a signature is for. */
export type Domain = Read<typeof readDomain>;
export { readDomain };

const DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

export function separator(domain: Domain): Digest {
  const words = [utf8(DOMAIN_TYPE), utf8("rexis"), utf8("1")].map((part) => keccak(part));
  return toHex(keccak(...words, number(domain.chainId), AddressMember.word(domain.verifyingContract)));
}

/** The 32 bytes that are signed: `keccak256(0x19 0x01 ‖ domainSeparator ‖ hashStruct)`. */
export function signedDigest<T>(domain: Domain, kind: Struct<T>, value: T): Digest {
  return toHex(keccak(Uint8Array.of(0x19, 0x01), fromHex(separator(domain)), kind.word(value)));
}
