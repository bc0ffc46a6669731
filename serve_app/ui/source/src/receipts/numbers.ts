/** Sums and roundings as the control plane makes them, to the last bit: a verifier compares them exactly. */

/** The sum rounded once, so that the order of its terms does not matter (Shewchuk 1997; Python's `math.fsum`). */
export function exactSum(terms: Iterable<number>): number {
  const partials: number[] = [];
  for (let x of terms) {
    let kept = 0;
    for (let y of partials) {
      if (Math.abs(x) < Math.abs(y)) [x, y] = [y, x];
      const high = x + y;
      const low = y - (high - x);
      if (low) partials[kept++] = low;
      x = high;
    }
    partials.length = kept;
    partials.push(x);
  }
  let at = partials.length;
  if (at === 0) return 0;
  let high = partials[--at] as number;
  let low = 0;
  while (at > 0) {
    const x = high;
    const y = partials[--at] as number;
    high = x + y;
    low = y - (high - x);
    if (low) break;
  }
  // Half-way cases round to even, over all partials.
  if (at > 0 && ((low < 0 && (partials[at - 1] as number) < 0) || (low > 0 && (partials[at - 1] as number) > 0))) {
    const y = low * 2;
    const x = high + y;
    if (y === x - high) high = x;
  }
  return high;
}

/** Rounds to so many decimals, and exact halves to even. `toFixed` is exact, but it rounds them up. */
export function rounded(x: number, digits: number): number {
  if (Number.isInteger(x * 2 ** (digits + 1)) && !Number.isInteger(x * 2 ** digits)) {
    const below = Math.floor(x * 10 ** digits);
    return (below % 2 === 0 ? below : below + 1) / 10 ** digits;
  }
  return Number(x.toFixed(digits));
}
