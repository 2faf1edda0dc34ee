import assert from "node:assert/strict";
import { test } from "node:test";
import { csv, front, mean, smooth } from "../src/curves.ts";
import type { Curve } from "../src/types.ts";

function curve(run: string, x: number[], y: number[]): Curve {
  const values = Float64Array.from(y);
  return {
    run,
    x: Float64Array.from(x),
    mean: values,
    min: values,
    max: values,
    smooth: null,
    nonfinite: [],
    exact: true,
  };
}

test("a group's mean and band stand over the steps of all its runs", () => {
  const group = mean([curve("a", [0, 2], [0, 2]), curve("b", [0, 1, 2], [2, 4, 6])], "both");
  assert.deepEqual([...group.x], [0, 1, 2]);
  assert.deepEqual([...group.mean], [1, 2.5, 4]);
  assert.deepEqual([...group.min], [0, 1, 2]);
  assert.deepEqual([...group.max], [2, 4, 6]);
});

test("a run that ended early no longer counts in its group", () => {
  const group = mean([curve("a", [0, 1], [1, 1]), curve("b", [0, 1, 2], [3, 3, 3])], "both");
  assert.deepEqual([...group.mean], [2, 2, 3]);
});

test("the moving average starts at the first value and lets NaN through", () => {
  const smoothed = smooth(Float64Array.from([4, Number.NaN, 4, 4]), 0.9);
  assert.ok(Math.abs(smoothed[0]! - 4) < 1e-12);
  assert.ok(Number.isNaN(smoothed[1]!));
  assert.ok(Math.abs(smoothed[3]! - 4) < 1e-12);
});

test("a CSV quotes names", () => {
  assert.equal(
    csv([curve("a", [1], [2])], "step", new Map([["a", 'x,"y"']])),
    'run,step,mean,min,max\n"x,""y""",1,2,2,2\n',
  );
});

test("the Pareto front holds the points that no other one beats", () => {
  const points = [
    { x: 1, y: 5 },
    { x: 2, y: 4 },
    { x: 2, y: 3 },
    { x: 3, y: 1 },
    { x: 1, y: 1 },
  ];
  const places = (right: boolean, up: boolean) => front(points, right, up).map(({ x, y }) => [x, y]);
  assert.deepEqual(places(true, true), [
    [1, 5],
    [2, 4],
    [3, 1],
  ]);
  assert.deepEqual(places(false, false), [[1, 1]]);
  assert.deepEqual(places(false, true), [[1, 5]]);
  assert.deepEqual(front([], true, true), []);
});
