/** What a sample shows: how likely altered records are to survive it. As `rexis/protocol/sampling.py`. */

// Above this many factors exact fractions take too long, and logarithms are used.
const EXACT_FACTORS = 1 << 12;

/**
 * Probability that a task with altered records passes one of its attempts: 1 − (1 − C(n−m, k)/C(n, k))^attempts.
 *
 * `sample` records are drawn per attempt; each draw is from another block, so that they are independent.
 */
export function survival(records: number, altered: number, sample: number, attempts = 1): number {
  if (Math.min(sample, altered) * attempts > EXACT_FACTORS) {
    return Math.exp(logSurvival(records, altered, sample, attempts));
  }
  const drawn = Math.min(sample, records);
  // C(n−m, k)/C(n, k) is symmetric in k and m: the smaller one is the number of factors.
  const [few, many] = [Math.min(drawn, altered), Math.max(drawn, altered)];
  const [passed, all] = [permutations(records - many, few), permutations(records, few)];
  const whole = all ** BigInt(attempts);
  return ratio(whole - (all - passed) ** BigInt(attempts), whole);
}

/** Natural logarithm of the same, by log-gamma: within 10⁻⁸ for up to 2²⁰ records. −Infinity for 0. */
export function logSurvival(records: number, altered: number, sample: number, attempts = 1): number {
  const drawn = Math.min(sample, records);
  if (drawn > records - altered) return -Infinity;
  const once = Math.min(0, logPermutations(records - altered, drawn) - logPermutations(records, drawn));
  if (once < -36) return Math.min(0, once + Math.log(attempts)); // e^-36 is lost beside 1: the union bound is left
  const caught = once < 0 ? Math.exp(attempts * Math.log(-Math.expm1(once))) : 0;
  return caught < 0.5 ? Math.log1p(-caught) : Math.log(-Math.expm1(attempts * Math.log1p(-Math.exp(once))));
}

/**
 * The same for a whole job, each of whose tasks is sampled on its own. The altered records lie where they survive best:
 * evenly over tasks of one size; how many go into the last, smaller task is found by climbing from the even share.
 */
export function jobLogSurvival(
  records: number,
  shardSize: number,
  altered: number,
  sample: number,
  attempts = 1,
): number {
  const [tasks, rest] = [Math.floor(records / shardSize), records % shardSize];
  if (tasks === 0) return logSurvival(rest, altered, sample, attempts);
  const [room, restRoom] = [shardSize - Math.min(sample, shardSize), rest - Math.min(sample, rest)];
  const [lowest, highest] = [Math.max(0, altered - tasks * room), Math.min(restRoom, altered)];
  if (lowest > highest) return -Infinity;

  const spread = (inRest: number): number => {
    const [each, more] = [Math.floor((altered - inRest) / tasks), (altered - inRest) % tasks];
    const full = (tasks - more) * logSurvival(shardSize, each, sample, attempts);
    const fuller = more ? more * logSurvival(shardSize, each + 1, sample, attempts) : 0;
    return full + fuller + (rest ? logSurvival(rest, inRest, sample, attempts) : 0);
  };

  let best = Math.min(Math.max(Math.floor((altered * rest) / records), lowest), highest);
  let found = spread(best);
  for (const step of [1, -1]) {
    for (let next = best + step; lowest <= next && next <= highest; next += step) {
      const value = spread(next);
      if (value <= found) break;
      [best, found] = [next, value];
    }
  }
  return found;
}

/** n·(n−1)⋯(n−k+1). */
function permutations(n: number, k: number): bigint {
  let product = 1n;
  for (let i = 0; i < k; i++) product *= BigInt(Math.max(0, n - i));
  return product;
}

function logPermutations(n: number, k: number): number {
  return logFactorial(n) - logFactorial(n - k);
}

/** Stirling's series, which is exact to double precision from 16 on; below, the product. */
function logFactorial(n: number): number {
  if (n < 16) return Math.log(Number(permutations(n, n)));
  const x = n + 1;
  const series = 1 / (12 * x) - 1 / (360 * x ** 3) + 1 / (1260 * x ** 5) - 1 / (1680 * x ** 7);
  return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series;
}

/** A fraction between 0 and 1 as a number. */
function ratio(part: bigint, whole: bigint): number {
  if (part === 0n) return 0;
  const shift = Math.max(0, whole.toString(2).length - part.toString(2).length + 64);
  return Number((part << BigInt(shift)) / whole) * 2 ** -shift;
}
