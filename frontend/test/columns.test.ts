import assert from "node:assert/strict";
import { test } from "node:test";
import { sorted } from "../src/columns.ts";
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
