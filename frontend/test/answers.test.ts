import assert from "node:assert/strict";
import { test } from "node:test";
import { rows } from "../src/answers.ts";
import { decode } from "../src/container.ts";
import { report } from "../src/report.ts";

/** Write a container as the server does. */
function container(series: Record<string, unknown>[], arrays: number[][]): ArrayBuffer {
  let head = JSON.stringify({ format: 1, metric: "loss", series });
  head = head.padEnd(Math.ceil(new TextEncoder().encode(head).length / 8) * 8);
  const buffer = new ArrayBuffer(8 + head.length + arrays.reduce((sum, array) => sum + array.length * 8, 0));
  new Uint8Array(buffer).set(new TextEncoder().encode("RPC1"));
  new DataView(buffer).setUint32(4, head.length, true);
  new Uint8Array(buffer, 8).set(new TextEncoder().encode(head));
  let at = 8 + head.length;
  for (const array of arrays) {
    new Float64Array(buffer, at, array.length).set(array);
    at += array.length * 8;
  }
  return buffer;
}

const place = (at: number, length: number) => ({ at, length, type: "f64" });

test("a chart is read without a copy, and a missing run is left out", () => {
  const series = [
    {
      run: "a",
      state: "preview",
      x: place(0, 3),
      y: place(24, 3),
      special: { x: place(48, 1), kind: place(56, 1) },
    },
    { run: "b", state: "missing" },
  ];
  const buffer = container(series, [[1, 2, 3], [0.5, Number.NaN, 2], [2], [1]]);
  const curves = decode(buffer);
  assert.equal(curves.length, 1);
  assert.deepEqual([...curves[0]!.x], [1, 2, 3]);
  assert.deepEqual([...curves[0]!.mean], [0.5, Number.NaN, 2]);
  assert.equal(curves[0]!.x.buffer, buffer);
  assert.equal(curves[0]!.min, curves[0]!.mean);
  assert.deepEqual(curves[0]!.nonfinite, [2]);
  assert.equal(curves[0]!.exact, false);
});

test("what is not a chart is refused", () => {
  assert.throws(() => decode(new TextEncoder().encode('{"error": 1}').buffer as ArrayBuffer), /not a chart/);
});

test("a table by columns becomes rows", () => {
  const [run] = rows({
    keys: ["3f9a"],
    fields: {
      id: ["2026-a"],
      name: [""],
      tags: [["x"]],
      note: [""],
      archived: [false],
      status: ["finished"],
      pipeline: ["p"],
      started: [1],
      seconds: [2],
      attempt: [1],
      sweep: [null],
      error: [null],
    },
    columns: [
      { kind: "config", key: "processes.train.params.lr", label: "lr", values: [0.1] },
      { kind: "config", key: "processes.train.params.other", label: "other", values: [null] },
      {
        kind: "metric",
        key: "acc",
        label: "acc",
        goal: "max",
        values: [0.5],
        best: [0.9],
        best_step: [3],
        last_step: [9],
      },
      {
        kind: "metric",
        key: "nan",
        label: "nan",
        goal: null,
        values: [null],
        best: [null],
        best_step: [null],
        last_step: [9],
      },
      {
        kind: "metric",
        key: "absent",
        label: "absent",
        goal: null,
        values: [null],
        best: [null],
        best_step: [null],
        last_step: [null],
      },
    ],
  });
  assert.equal(run!.name, "2026-a");
  assert.deepEqual(run!.config, { "processes.train.params.lr": 0.1 });
  assert.deepEqual(Object.keys(run!.metrics), ["acc", "nan"]);
  assert.equal(run!.metrics.acc!.best, 0.9);
  assert.equal(run!.metrics.nan!.last, null);
});

function packed(buffer: ArrayBuffer): string {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)));
}

const LOSS = [
  {
    run: "a",
    state: "exact",
    x: place(0, 3),
    y: place(24, 3),
    time: place(48, 3),
    special: { x: place(72, 1), kind: place(80, 1) },
  },
];
const SEEN = [{ run: "a", state: "exact", x: place(0, 2), y: place(16, 2) }];
const REPORT = report({
  info: {},
  runs: {},
  run: { a: { hello: 1 } },
  media: {},
  logs: { a: { "run.log": { text: "said" } } },
  diffs: {},
  sweeps: { sweeps: [{ key: "s", id: "one" }] },
  sweep: { s: { title: "found" } },
  files: { "a/figures/x.png": "data:image/png;base64,AA==" },
  charts: {
    loss: packed(container(LOSS, [[0, 1, 2], [3, Number.NaN, 1], [10, 11, 13], [1], [1]])),
    seen: packed(
      container(SEEN, [
        [0, 2],
        [64, 192],
      ]),
    ),
  },
});
const QUERY = { metric: "loss", runs: ["a"], columns: 100, from: null, to: null, smoothing: 0 };

test("a report holds its sweeps", async () => {
  assert.deepEqual(await REPORT.get("api/sweeps"), { sweeps: [{ key: "s", id: "one" }] });
  assert.deepEqual(await REPORT.get("api/sweeps/s"), { title: "found" });
  await assert.rejects(REPORT.get("api/sweeps/none"), /does not hold/);
});

test("a report answers over steps, time and another metric", async () => {
  const over = async (axis: "step" | "relative" | "metric:seen", more = {}) =>
    (await REPORT.curves!({ ...QUERY, axis, ...more }))[0];
  assert.deepEqual([...(await over("relative"))!.x], [0, 1, 3]);
  assert.deepEqual((await over("relative"))!.nonfinite, [1]);
  assert.deepEqual([...(await over("metric:seen"))!.x], [64, 192]);
  assert.deepEqual([...(await over("step", { from: 1 }))!.x], [1, 2]);
  assert.equal(await over("step", { runs: ["b"] }), undefined);
  assert.equal(await over("step", { metric: "absent" }), undefined);
});

test("a report has the answers of the server, and says what it has not", async () => {
  assert.deepEqual(await REPORT.get("api/runs/a"), { hello: 1 });
  assert.deepEqual(await REPORT.get("api/runs/a/log?file=run.log&offset=-9"), { text: "said" });
  assert.deepEqual(await REPORT.get("api/runs/a/media"), { items: [] });
  assert.equal(REPORT.file("a", "figures/x.png"), "data:image/png;base64,AA==");
  assert.equal(REPORT.file("a", "figures/large.png"), "");
  await assert.rejects(REPORT.get("api/runs/b"), /does not hold/);
});
