/** Quantities for people. */

const BYTES = ["B", "kB", "MB", "GB"];

const digits = (value: number): string => String(Number(value.toPrecision(value < 100 ? 2 : 3)));

export function seconds(value: number): string {
  if (value < 1e-3) return `${digits(value * 1e6)} µs`;
  return value < 1 ? `${digits(value * 1e3)} ms` : `${digits(value)} s`;
}

export function bytes(value: number): string {
  const power = Math.min(Math.floor(Math.log10(Math.max(value, 1)) / 3), BYTES.length - 1);
  return `${digits(value / 1000 ** power)} ${BYTES[power]}`;
}
