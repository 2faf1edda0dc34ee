// The part of the y axis that a chart shows: values of a run that diverges do not flatten the others.

import type { Line } from "./plot.ts";

export interface Range {
  low: number;
  high: number;
  isCut: boolean; // whether some values lie outside
}

const FAR = 30;
const VERY_FAR = 1000;
const SAMPLE = 4000;

/**
 * Find the range of the y values between two x.
 *
 * Values further from the median than 30 times the median deviation from it (MAD) are left out. But
 * a loss that falls fast begins far away, so the range goes as far as the lines begin, except for a
 * line that begins 1,000 times as far as they usually do.
 *
 * @param whole - Whether nothing is left out.
 * @returns The range; null where there is no finite value.
 */
export function rangeOf(lines: Line[], from: number, to: number, whole: boolean): Range | null {
  const values: number[] = [];
  const firsts: number[] = [];
  for (const line of lines) {
    let isFirst = true;
    for (let index = 0; index < line.x.length; index++) {
      if (line.x[index]! < from || line.x[index]! > to) continue;
      for (const series of [line.y, line.low, line.high]) {
        const value = series?.[index] ?? Number.NaN;
        if (!Number.isFinite(value)) continue;
        values.push(value);
        if (isFirst) firsts.push(value);
        isFirst = false;
      }
    }
  }
  const all = extent(values);
  if (!all || whole) return all && { ...all, isCut: false };
  const every = Math.ceil(values.length / SAMPLE); // sorting all takes longer than drawing them
  const sample = Float64Array.from(values.filter((_, index) => index % every === 0));
  const middle = median(sample);
  const scale = median(sample.map((value) => Math.abs(value - middle))) || Math.abs(middle);
  if (!scale || !Number.isFinite(scale)) return { ...all, isCut: false };
  const usual = median(Float64Array.from(firsts, (value) => Math.abs(value - middle))) || scale;
  const begun = extent([middle, ...firsts.filter((value) => Math.abs(value - middle) <= VERY_FAR * usual)])!;
  const kept = values.filter(
    (value) => Math.abs(value - middle) <= FAR * scale || (value >= begun.low && value <= begun.high),
  );
  return { ...(extent(kept) ?? all), isCut: kept.length > 0 && kept.length < values.length };
}

function extent(values: number[]): { low: number; high: number } | null {
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
