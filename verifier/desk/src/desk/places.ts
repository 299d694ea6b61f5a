/** The page's sections, and what its fragment says: `#/log`, or `#/verify?certificate=examples/zk/certificate.json`. */

export const PLACES = [
  { place: "verify", name: "Verify" },
  { place: "lineage", name: "Lineage" },
  { place: "log", name: "Log" },
  { place: "follow", name: "Follow a job" },
  { place: "reports", name: "Reports" },
  { place: "guarantees", name: "Guarantees" },
] as const;

export type Place = (typeof PLACES)[number]["place"];

export interface Address {
  place: Place;
  /** A path on this server. */
  certificate: string | null;
}

export function addressOf(fragment: string): Address {
  const [, name = "", query = ""] = /^#\/([a-z]*)(?:\?(.*))?$/.exec(fragment) ?? [];
  const place = PLACES.find((each) => each.place === name)?.place ?? "verify";
  return { place, certificate: new URLSearchParams(query).get("certificate") };
}
