// Reckoning with curves: means and bands of groups, and the debiased moving average for reports.

import type { Curve } from "./types.ts";

/** Interpolate a curve at ascending places; NaN outside of it and in its gaps. */
function resample(x: Float64Array, y: Float64Array, at: Float64Array): Float64Array {
  const result = new Float64Array(at.length).fill(Number.NaN);
  let index = 0;
  for (let place = 0; place < at.length; place++) {
    const here = at[place]!;
    while (index + 1 < x.length && x[index + 1]! <= here) index++;
    const left = x[index];
    if (left === undefined || here < left) continue;
    if (left === here) result[place] = y[index]!;
    else if (index + 1 < x.length) {
      const right = x[index + 1]!;
      result[place] = y[index]! + ((y[index + 1]! - y[index]!) * (here - left)) / (right - left);
    }
  }
  return result;
}

/** The mean of several curves and the band from the lowest to the highest of them, over all their x. */
export function mean(curves: Curve[], name: string): Curve {
  const places = new Set<number>();
  for (const curve of curves) for (const x of curve.x) places.add(x);
  const x = Float64Array.from(places).sort();
  const values = curves.map((curve) => resample(curve.x, curve.smooth ?? curve.mean, x));
  const middle = new Float64Array(x.length);
  const low = new Float64Array(x.length).fill(Number.NaN);
  const high = new Float64Array(x.length).fill(Number.NaN);
  for (let place = 0; place < x.length; place++) {
    let sum = 0;
    let count = 0;
    for (const column of values) {
      const value = column[place]!;
      if (!Number.isFinite(value)) continue;
      sum += value;
      count++;
      low[place] = count === 1 ? value : Math.min(low[place]!, value);
      high[place] = count === 1 ? value : Math.max(high[place]!, value);
    }
    middle[place] = count ? sum / count : Number.NaN;
  }
  return {
    run: name,
    x,
    mean: middle,
    min: low,
    max: high,
    smooth: null,
    nonfinite: [...new Set(curves.flatMap((curve) => curve.nonfinite))].sort((a, b) => a - b),
    exact: curves.every((curve) => curve.exact),
  };
}

/** The exponential moving average, divided by the weight that it has so far (as Adam does), over finite values. */
export function smooth(values: Float64Array, weight: number): Float64Array {
  const result = new Float64Array(values.length);
  let average = 0;
  let seen = 0;
  values.forEach((value, index) => {
    if (!Number.isFinite(value)) {
      result[index] = value;
      return;
    }
    average = average * weight + value * (1 - weight);
    seen++;
    result[index] = average / (1 - weight ** seen);
  });
  return result;
}

/** Write curves as CSV: one row a run and place. */
export function csv(curves: Curve[], axis: string, names: Map<string, string>): string {
  const quote = (text: string) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = [`run,${quote(axis)},mean,min,max`];
  for (const curve of curves) {
    const name = quote(names.get(curve.run) ?? curve.run);
    curve.x.forEach((x, index) => {
      rows.push(`${name},${x},${curve.mean[index]},${curve.min[index]},${curve.max[index]}`);
    });
  }
  return `${rows.join("\n")}\n`;
}

export interface Point {
  x: number;
  y: number;
}

/** The points that no other one beats in both directions, from left to right. */
export function front<T extends Point>(points: T[], right: boolean, up: boolean): T[] {
  const found: T[] = [];
  const side = right ? -1 : 1;
  const better = (y: number, than: number) => (up ? y > than : y < than);
  for (const point of [...points].sort((a, b) => side * (a.x - b.x) || (up ? b.y - a.y : a.y - b.y))) {
    if (!found.length || better(point.y, found.at(-1)!.y)) found.push(point);
  }
  return right ? found.reverse() : found;
}
