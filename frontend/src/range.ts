// The part of the y axis that a chart shows: values of a run that diverges do not flatten the others.

import type { Line } from "./plot.ts";

export interface Range {
  low: number;
  high: number;
  isCut: boolean; // whether some values lie outside
}

// how far from the median, in median deviations; on a logarithmic axis a few are many decades
const FAR = { linear: 30, log: 6 };
const VERY_FAR = { linear: 1000, log: 4 };
const LEAST_DECADES = 0.5; // three decades beside the median are always in sight
const FEWEST = 5; // of fewer values none is an outlier
const SAMPLE = 4000;

/**
 * Find the range of the y values between two x.
 *
 * Values further from the median than 30 times the median deviation from it (MAD) are left out. But
 * a loss that falls fast begins far away, so the range goes as far as the lines begin, except for a
 * line that begins 1,000 times as far as they usually do. On a logarithmic axis the same is done
 * with the logarithms, 6 times and 4 times as far, and at least 3 decades; values up to 0 have no
 * place there.
 *
 * @param whole - Whether nothing is left out.
 * @returns The range; null where there is no value to show.
 */
export function rangeOf(
  lines: Line[],
  from: number,
  to: number,
  { whole, log }: { whole: boolean; log: boolean },
): Range | null {
  const kind = log ? "log" : "linear";
  const values: number[] = [];
  const firsts: number[] = [];
  for (const line of lines) {
    let isFirst = true;
    for (let index = 0; index < line.x.length; index++) {
      if (line.x[index]! < from || line.x[index]! > to) continue;
      for (const series of [line.y, line.low, line.high]) {
        const given = series?.[index] ?? Number.NaN;
        const value = log ? Math.log10(given) : given;
        if (!Number.isFinite(value)) continue;
        values.push(value);
        if (isFirst) firsts.push(value);
        isFirst = false;
      }
    }
  }
  const all = extent(values);
  const range = ({ low, high }: Extent, isCut: boolean) =>
    log ? { low: 10 ** low, high: Math.min(10 ** high, Number.MAX_VALUE), isCut } : { low, high, isCut };
  if (!all || whole || values.length < FEWEST) return all && range(all, false);
  const every = Math.ceil(values.length / SAMPLE); // sorting all takes longer than drawing them
  const sample = Float64Array.from(values.filter((_, index) => index % every === 0));
  const middle = median(sample);
  const deviation = median(sample.map((value) => Math.abs(value - middle)));
  const scale = log ? Math.max(LEAST_DECADES, deviation) : deviation || Math.abs(middle);
  if (!scale || !Number.isFinite(scale)) return range(all, false);
  const distance = median(Float64Array.from(firsts, (value) => Math.abs(value - middle)));
  const usual = log ? Math.max(scale, distance) : distance || scale;
  const begun = extent([
    middle,
    ...firsts.filter((value) => Math.abs(value - middle) <= VERY_FAR[kind] * usual),
  ])!;
  const kept = values.filter(
    (value) => Math.abs(value - middle) <= FAR[kind] * scale || (value >= begun.low && value <= begun.high),
  );
  return range(extent(kept)!, kept.length < values.length); // the median is one of them
}

interface Extent {
  low: number;
  high: number;
}

function extent(values: number[]): Extent | null {
  if (!values.length) return null;
  let [low, high] = [values[0]!, values[0]!];
  for (const value of values) {
    if (value < low) low = value;
    else if (value > high) high = value;
  }
  return { low, high };
}

/** The median; of an even number of values the lower one of the two in the middle. */
function median(values: Float64Array): number {
  return values.toSorted()[(values.length - 1) >> 1]!;
}

/**
 * Find the unit to draw values in: uPlot writes no ticks where numbers have more than 17 digits.
 */
export function unitOf(range: Range | null): number {
  const size = range ? Math.max(Math.abs(range.low), Math.abs(range.high)) : 0;
  return size >= 1e12 || (size > 0 && size < 1e-9) ? 10 ** Math.max(-300, Math.floor(Math.log10(size))) : 1;
}

const MOST_DECADES = 6;
const MULTIPLES = [
  [1, 2, 3, 5, 7],
  [1, 2, 5],
  [1, 2, 5],
];

/** Find the ticks of a logarithmic axis: powers of ten, in a small range also multiples between them. */
export function logTicks(low: number, high: number): number[] {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const every = Math.max(1, Math.ceil((last - first) / MOST_DECADES));
  const multiples = MULTIPLES[Math.floor(Math.log10(high / low))] ?? [1];
  const found: number[] = [];
  for (let power = first; power <= last; power++)
    if (power % every === 0) for (const times of multiples) found.push(Number(`${times}e${power}`));
  const inSight = found.filter((tick) => tick >= low && tick <= high);
  return inSight.length > 2 ? inSight : evenTicks(low, high);
}

/** Find about five round numbers between two others. */
function evenTicks(low: number, high: number): number[] {
  const power = Math.floor(Math.log10((high - low) / 5));
  const step = [1, 2, 5, 10].find((times) => (high - low) / Number(`${times}e${power}`) <= 6)!;
  const first = Math.ceil(low / Number(`${step}e${power}`));
  const ticks: number[] = [];
  for (let index = first; ticks.length < 9; index++) {
    const tick = Number(`${index * step}e${power}`);
    if (tick > high) break;
    ticks.push(tick);
  }
  return ticks;
}

/** Find where a line stops being finite: the first of the NaN or infinite values behind a finite one. */
export function breaksOf({ x, y, nonfinite }: Line): number[] {
  const found: number[] = [];
  let index = 0;
  let isBroken = false;
  for (const place of nonfinite) {
    for (; index < x.length && x[index]! < place; index++) if (Number.isFinite(y[index]!)) isBroken = false;
    if (!isBroken) found.push(place);
    isBroken = true;
  }
  return found;
}
