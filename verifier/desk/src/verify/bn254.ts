/**
 * Multiplication on BN254's first group (EIP-196), where most of a proof's time goes. The tests' oracle is noble-curves.
 *
 * The curve is y² = x³ + 3 over a field whose order is 1 modulo 3, so that (x, y) → (βx, y) multiplies by λ. A scalar
 * is split into two of half its length (Gallant, Lambert and Vanstone, CRYPTO 2001), whose doublings are shared.
 * Nothing here is secret: times depend on the numbers.
 */

/** Order of the base field. */
export const BASE_FIELD = 0x30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47n;
/** Order of the group, and of the scalar field. */
export const SCALAR_FIELD = 0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001n;

const BETA = 0x30644e72e131a0295e6dd9e7e0acccb0c28f069fbb966e3de4bd44e5607cfd48n;
/** A short basis of the (a, b) with a + b·λ = 0 modulo the group's order. */
const SHORT = [
  [147946756881789319000765030803803410728n, -9931322734385697763n],
  [9931322734385697763n, 147946756881789319010696353538189108491n],
] as const;
const WINDOW = 5;
const ODD = 1 << (WINDOW - 2); // odd multiples 1, 3, … in a table

export type Affine = readonly [x: bigint, y: bigint];
/** (X/Z², Y/Z³); null is the point at infinity. Coordinates need not be reduced, nor positive. */
type Jacobian = readonly [x: bigint, y: bigint, z: bigint] | null;

/** Whether two numbers below the field's order are the coordinates of a point. */
export function isOnCurve([x, y]: Affine): boolean {
  return x < BASE_FIELD && y < BASE_FIELD && (y * y - x * x * x - 3n) % BASE_FIELD === 0n;
}

/** `scalar` times a point; null is the point at infinity. */
export function multiply([x, y]: Affine, scalar: bigint): Affine | null {
  const table: Jacobian[] = [[x, y, 1n]];
  const twice = double([x, y, 1n]);
  for (let i = 1; i < ODD; i++) table.push(add(table[i - 1] ?? null, twice));
  const turned = table.map((point): Jacobian => point && [(point[0] * BETA) % BASE_FIELD, point[1], point[2]]);

  const parts = split(scalar % SCALAR_FIELD);
  const digits = parts.map(signedDigits);
  let found: Jacobian = null;
  for (let at = Math.max(...digits.map((each) => each.length)) - 1; at >= 0; at--) {
    found = double(found);
    for (const [i, multiples] of [table, turned].entries()) {
      const digit = digits[i]?.[at] ?? 0;
      const point = multiples[(Math.abs(digit) - 1) >> 1] ?? null;
      if (digit) found = add(found, digit > 0 ? point : negated(point));
    }
  }
  return affine(found);
}

/** Scalars k₁, k₂ of half the length, of either sign, with k = k₁ + k₂·λ. */
function split(scalar: bigint): [bigint, bigint] {
  const [[a1, b1], [a2, b2]] = SHORT;
  const [c1, c2] = [nearest(b2 * scalar), nearest(-b1 * scalar)];
  return [scalar - c1 * a1 - c2 * a2, -c1 * b1 - c2 * b2];
}

function nearest(numerator: bigint): bigint {
  const half = SCALAR_FIELD / 2n;
  return (numerator + (numerator < 0n ? -half : half)) / SCALAR_FIELD;
}

/** Digits of base 2, lowest first, that are odd and small or 0: of any `WINDOW` in a row at most one is not 0. */
function signedDigits(value: bigint): number[] {
  const sign = value < 0n ? -1 : 1;
  const digits: number[] = [];
  for (let left = value < 0n ? -value : value; left > 0n; left >>= 1n) {
    const low = Number(left & BigInt((1 << WINDOW) - 1));
    const digit = low % 2 === 0 ? 0 : low < 1 << (WINDOW - 1) ? low : low - (1 << WINDOW);
    left -= BigInt(digit);
    digits.push(digit * sign);
  }
  return digits;
}

/** "dbl-2009-l" of the Explicit-Formulas Database. No point of this group has order 2. */
function double(point: Jacobian): Jacobian {
  if (!point) return null;
  const [x, y, z] = point;
  const xx = (x * x) % BASE_FIELD;
  const yy = (y * y) % BASE_FIELD;
  const yyyy = (yy * yy) % BASE_FIELD;
  const d = 2n * (((x + yy) * (x + yy) - xx - yyyy) % BASE_FIELD);
  const e = 3n * xx;
  const x3 = (e * e - 2n * d) % BASE_FIELD;
  return [x3, (e * (d - x3) - 8n * yyyy) % BASE_FIELD, (2n * y * z) % BASE_FIELD];
}

/** "add-1998-cmo-2" of the Explicit-Formulas Database, and the cases that it leaves out. */
function add(left: Jacobian, right: Jacobian): Jacobian {
  if (!left) return right;
  if (!right) return left;
  const [x1, y1, z1] = left;
  const [x2, y2, z2] = right;
  const z1z1 = (z1 * z1) % BASE_FIELD;
  const z2z2 = (z2 * z2) % BASE_FIELD;
  const u1 = (x1 * z2z2) % BASE_FIELD;
  const s1 = (((y1 * z2) % BASE_FIELD) * z2z2) % BASE_FIELD;
  const h = (x2 * z1z1 - u1) % BASE_FIELD;
  const r = (((y2 * z1) % BASE_FIELD) * z1z1 - s1) % BASE_FIELD;
  if (h === 0n) return r === 0n ? double(left) : null;
  const hh = (h * h) % BASE_FIELD;
  const hhh = (h * hh) % BASE_FIELD;
  const v = (u1 * hh) % BASE_FIELD;
  const x3 = (r * r - hhh - 2n * v) % BASE_FIELD;
  return [x3, (r * (v - x3) - s1 * hhh) % BASE_FIELD, (((z1 * z2) % BASE_FIELD) * h) % BASE_FIELD];
}

function negated(point: Jacobian): Jacobian {
  return point && [point[0], -point[1], point[2]];
}

function affine(point: Jacobian): Affine | null {
  if (!point) return null;
  const inverse = inverted(point[2]);
  const square = (inverse * inverse) % BASE_FIELD;
  return [reduced(point[0] * square), reduced(((point[1] * square) % BASE_FIELD) * inverse)];
}

/** By Euclid's algorithm; of 0 there is none, and no point has one for its Z. */
export function inverted(value: bigint): bigint {
  let [a, b, u, v] = [reduced(value), BASE_FIELD, 1n, 0n];
  while (a !== 0n) {
    const quotient = b / a;
    [a, b, u, v] = [b - quotient * a, a, v - quotient * u, u];
  }
  return reduced(v);
}

export function reduced(value: bigint): bigint {
  const found = value % BASE_FIELD;
  return found < 0n ? found + BASE_FIELD : found;
}
