import assert from "node:assert/strict";
import { test } from "node:test";
import { all, best, sorted, titles } from "../src/columns.ts";
import type { RunRow } from "../src/types.ts";

const run = (id: string, runId: string, started = 0) =>
  ({ id, runId, name: runId, started, config: {}, metrics: {} }) as unknown as RunRow;

test("runs that began at the same time, or say no time, come by their ids and not by their keys", () => {
  for (const keys of [
    ["a", "b"],
    ["b", "a"],
  ]) {
    const runs = [run(keys[0]!, "20261122-000001"), run(keys[1]!, "20261122-000002")];
    for (const list of [runs, runs.toReversed()]) {
      const order = sorted(list, "-started").map((each) => each.runId);
      assert.deepEqual(order, ["20261122-000002", "20261122-000001"]);
    }
  }
});

test("the newest run comes first", () => {
  const order = sorted([run("b", "20261122-000002", 1), run("a", "20261122-000001", 2)], "-started");
  assert.deepEqual(
    order.map((each) => each.id),
    ["a", "b"],
  );
});

const named = (runId: string, name: string, config: Record<string, unknown> = {}) =>
  ({ id: runId, runId, name, config, labels: { "p.lr": "lr" }, metrics: {} }) as unknown as RunRow;

test("runs of one name are told apart by what differs, or by their ids", () => {
  const runs = [
    named("x-0000000a", "mlp", { "p.lr": 0.1, "p.width": 8, "pipeline.seed": 1 }),
    named("x-0000000b", "mlp", { "p.lr": 0.2, "p.width": 8, "pipeline.seed": 2 }),
    named("x-0000000c", "mlp", { "p.lr": 0.1, "p.width": 16 }),
    named("x-0000000d", "mlp", { "p.lr": 0.1, "p.width": 16 }),
    named("x-0000000e", "alone", { "p.lr": 0.1 }),
    named("x-0000000f", "twin"),
    named("x-00000010", "twin"),
  ];
  assert.deepEqual(titles(runs), [
    "mlp lr=0.1 p.width=8",
    "mlp lr=0.2 p.width=8",
    "mlp lr=0.1 p.width=16 0000000c",
    "mlp lr=0.1 p.width=16 0000000d",
    "alone",
    "twin 0000000f",
    "twin 00000010",
  ]);
});

test("the best of a column is the lowest loss and the highest accuracy, and a lost run is none", () => {
  const measured = (loss: number | null, accuracy: number) =>
    ({
      ...named("a", "a"),
      metrics: {
        loss: { last: loss, goal: "min" },
        accuracy: { last: accuracy, goal: "max" },
        other: { last: 1, goal: null },
      },
    }) as unknown as RunRow;
  const runs = [measured(2, 0.5), measured(1, 0.25), measured(null, 0.125)];
  const found = all(runs).filter((column) => column.group === "metric");
  assert.deepEqual(
    found.map((column) => [column.key, best(runs, column)]),
    [
      ["accuracy", 0.5],
      ["loss", 1],
      ["other", undefined],
    ],
  );
});
