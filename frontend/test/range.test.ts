import assert from "node:assert/strict";
import { test } from "node:test";
import type { Line } from "../src/plot.ts";
import { breaksOf, logTicks, rangeOf, unitOf } from "../src/range.ts";

function line(y: number[]): Line {
  const x = Float64Array.from(y.keys());
  const rest = { low: null, high: null, faint: false, nonfinite: [] };
  return { run: "r", name: "r", colour: "#000", x, y: Float64Array.from(y), ...rest };
}

const falling = (start: number, end: number) =>
  Array.from({ length: 200 }, (_, step) => end + (start - end) * Math.exp(-step / 10));

const LINEAR = { whole: false, log: false };

const of = (...lines: Line[]) => rangeOf(lines, -Infinity, Infinity, LINEAR);

test("a run that diverges does not flatten the others", () => {
  const good = Array.from({ length: 6 }, (_, run) => line(falling(2.3, 0.05 + run / 100)));
  const bad = [2.3, 40, 1e4, 1e12, 1e25, Number.POSITIVE_INFINITY, Number.NaN];
  for (const worse of [bad, [1e25, Number.NaN], bad.map((value) => -value), [3e4]]) {
    const range = of(...good, line(worse), line(worse))!;
    assert.equal(range.isCut, true, `${worse}`);
    assert.ok(range.high - range.low < 50, `${range.low} to ${range.high}`);
    assert.ok(range.high >= 2.3 && range.low < 0.06);
  }
  const all = rangeOf([...good, line(bad)], -Infinity, Infinity, { whole: true, log: false })!;
  assert.deepEqual(all, { low: falling(2.3, 0.05).at(-1)!, high: 1e25, isCut: false });
});

test("what training does without diverging is shown whole", () => {
  const noisy = Array.from(
    { length: 500 },
    (_, step) => Math.sin(step * 12.9898) * 3 + (step === 250 ? 40 : 0),
  );
  const warm = Array.from({ length: 500 }, (_, step) => Math.min(step / 50, 1) * 1e-3);
  for (const curves of [
    [falling(12, 1e-3)],
    [falling(1000, 1)],
    [noisy],
    [warm],
    [Array(50).fill(0.5)],
    [Array(50).fill(0)],
    [[...Array(49).fill(0), 1]],
    [Array(50).fill(1e-4), Array(50).fill(1e-4), Array(50).fill(0.05)],
    [[0.1, 0.9]],
    [[1e25]],
  ]) {
    const values = curves.flat();
    const range = of(...curves.map(line))!;
    assert.deepEqual(range, { low: Math.min(...values), high: Math.max(...values), isCut: false });
  }
  assert.ok(Number.isFinite(of(line([1e300, -1e300, 1e308]))!.high));
  assert.equal(of(line([Number.NaN]), line([])), null);
});

test("only what is in sight counts", () => {
  const both = line([...falling(2, 1), 1e9]);
  assert.equal(rangeOf([both], 0, 199, LINEAR)!.isCut, false);
  assert.equal(rangeOf([both], 0, 200, LINEAR)!.isCut, true);
});

test("values that uPlot has no ticks for are drawn in a unit", () => {
  const unit = (low: number, high: number) => unitOf({ low, high, isCut: false });
  assert.equal(unit(0, 1e11), 1);
  assert.equal(unit(-1e-8, 0), 1);
  assert.equal(unit(0, 0), 1);
  assert.ok(Math.abs(unit(-3e25, 5) / 1e25 - 1) < 1e-9);
  assert.ok(Math.abs(unit(0, 4e-12) / 1e-12 - 1) < 1e-9);
  assert.ok(unit(0, 5e-324) > 0);
  assert.equal(unitOf(null), 1);
});

test("a logarithmic axis has a few round ticks", () => {
  assert.deepEqual(logTicks(0.03, 2.5), [0.05, 0.1, 0.2, 0.5, 1, 2]);
  assert.deepEqual(logTicks(1, 10), [1, 2, 5, 10]);
  assert.deepEqual(logTicks(0.9, 1.1), [0.9, 0.95, 1, 1.05, 1.1]);
  assert.deepEqual(logTicks(1e-3, 1e26), [1, 1e5, 1e10, 1e15, 1e20, 1e25]);
  for (const [low, high] of [
    [1e-300, 1e300],
    [5, 5.0001],
    [2e-9, 1e-3],
    [3, 31],
    [1.5, 14],
  ] as const) {
    const ticks = logTicks(low, high);
    assert.ok(ticks.length >= 3 && ticks.length <= 9, `${low} to ${high}: ${ticks}`);
    assert.ok(ticks.every((tick) => tick >= low && tick <= high));
  }
});

test("a logarithmic axis leaves a run out of sight that diverges by many decades", () => {
  const log = (...lines: Line[]) => rangeOf(lines, -Infinity, Infinity, { whole: false, log: true })!;
  const good = Array.from({ length: 6 }, (_, run) => line(falling(2.3, 0.05 + run / 100)));
  const range = log(...good, line([2.3, 40, 1e4, 1e12, 1e25]), line([1e29, Number.NaN]));
  assert.equal(range.isCut, true);
  assert.ok(range.high >= 2.3 && range.high < 1e9 && range.low < 0.06, `${range.low} to ${range.high}`);
  for (const curve of [
    falling(12, 1e-3),
    falling(1e4, 1e-8),
    [0.5, 0.5],
    [1, 0, -1],
    [1e-12, 1],
    [...Array(99).fill(0.97), 0.002],
  ]) {
    const positive = curve.filter((value) => value > 0);
    const { low, high, isCut } = log(line(curve));
    assert.equal(isCut, false);
    assert.ok(
      Math.abs(low / Math.min(...positive) - 1) < 1e-9 && Math.abs(high / Math.max(...positive) - 1) < 1e-9,
    );
  }
  assert.equal(rangeOf([line([0, -1])], -Infinity, Infinity, { whole: false, log: true }), null);
});

test("a line is marked where it stops being finite", () => {
  const nan = Number.NaN;
  const broken = { ...line([1, nan, nan, 2, nan, 3, nan]), nonfinite: [1, 2, 4, 6] };
  assert.deepEqual(breaksOf(broken), [1, 4, 6]);
  assert.deepEqual(breaksOf({ ...line([]), nonfinite: [0, 1, 2] }), [0]);
  assert.deepEqual(breaksOf(line([1, 2])), []);
});
