import assert from "node:assert/strict";
import { test } from "node:test";
import { axisOf, columnsOf, Sweep, type SweepData, sortRows } from "../src/sweep/model.ts";

const DATA: SweepData = {
  id: "id",
  title: "demo",
  status: "finished",
  reason: "",
  counts: {},
  limit: 4,
  metric: { name: "loss", goal: "minimize", target: null },
  others: [],
  front: [],
  best: 2,
  command: "",
  constants: [],
  importances: { shares: [], note: "" },
  scale: { low: 0, high: 2, log: false, ticks: [[0, "0"]], target: null },
  axes: [
    {
      name: "kind",
      kind: "choice",
      step: 1,
      ticks: [
        [0, "a"],
        [1, "b"],
      ],
      labels: ["a", "b"],
      places: [0, 1, 0, null],
      drawn: [0.1, 0.9, 0, null],
      values: [0, 1, 0, null],
    },
  ],
  trials: {
    number: [0, 1, 2, 3],
    status: ["finished", "pruned", "finished", "failed"],
    value: [2, 5, 0.5, null],
    text: ["2", "5", "0.5", null],
    place: [1, 1, 0.25, null],
    best: [1, 1, 0.25, 0.25],
    run: ["r0", null, "r2", null],
    seconds: [1, null, 2, 3],
    error: ["", "", "", "no"],
  },
  runs: [],
};

test("a trial without a value on a filtered axis does not pass", () => {
  const sweep = new Sweep(DATA);
  const rows = (ranges: [number, [number, number]][], wanted = (_row: number) => true) => [
    ...sweep.passing(new Map(ranges), wanted),
  ];
  assert.deepEqual(rows([]), [1, 1, 1, 1]);
  assert.deepEqual(rows([[0, [0, 0.5]]]), [1, 0, 1, 0]);
  assert.deepEqual(
    rows([
      [0, [0, 0.5]],
      [1, [0, 0.5]],
    ]),
    [0, 0, 1, 0],
  );
  assert.deepEqual(
    rows([], (row) => row === 3),
    [0, 0, 0, 1],
  );
});

test("what is good depends on the goal, and what is beyond the axis is known", () => {
  assert.equal(new Sweep(DATA).goodness(2), 0.75);
  assert.equal(new Sweep({ ...DATA, metric: { ...DATA.metric, goal: "maximize" } }).goodness(2), 0.25);
  assert.equal(new Sweep(DATA).goodness(3), null);
  assert.deepEqual(
    [0, 1, 2, 3].map((row) => new Sweep(DATA).isBeyond(row)),
    [false, true, false, false],
  );
});

test("the table sorts both ways, and rows without a value come last", () => {
  const columns = columnsOf(new Sweep(DATA));
  assert.deepEqual(
    columns.map(({ name }) => name),
    ["trial", "status", "loss", "kind", "time", "run", "error"],
  );
  assert.deepEqual(sortRows([0, 1, 2, 3], columns[2]!, false), [2, 0, 1, 3]);
  assert.deepEqual(sortRows([0, 1, 2, 3], columns[2]!, true), [1, 0, 2, 3]);
  assert.deepEqual(
    [0, 1, 2, 3].map((row) => columns[3]!.text(row)),
    ["a", "b", "a", ""],
  );
});

test("the axis of another metric has places for what is finite", () => {
  assert.deepEqual(axisOf("speed", [1, null, 3, Number.NaN, 2]).places, [0, null, 1, null, 0.5]);
  assert.deepEqual(axisOf("speed", [7, 7]).places, [0.5, 0.5]);
  assert.deepEqual(axisOf("speed", []).ticks, [[0.5, ""]]);
});
