import assert from "node:assert/strict";
import { test } from "node:test";
import { ago, duration, number, percent, tick } from "../src/format.ts";

test("numbers have five significant digits and no tail of zeros", () => {
  const cases: [number | null, string][] = [
    [0, "0"],
    [0.1, "0.1"],
    [0.123456789, "0.12346"],
    [-2.5, "−2.5"],
    [1234567, "1234567"],
    [1.5e-7, "1.5e−7"],
    [123456.789, "123457"],
    [Number.NaN, "NaN"],
    [-Infinity, "−∞"],
    [null, ""],
  ];
  for (const [value, text] of cases) assert.equal(number(value), text);
});

test("durations grow from milliseconds to days", () => {
  const cases: [number | null, string][] = [
    [0.25, "250 ms"],
    [8.12, "8.1 s"],
    [59.6, "60 s"],
    [200, "3 min 20 s"],
    [7500, "2 h 05 min"],
    [273600, "3 d 4 h"],
    [null, ""],
  ];
  for (const [seconds, text] of cases) assert.equal(duration(seconds), text);
});

test("times are told as how long ago", () => {
  assert.equal(ago(990, 1000), "just now");
  assert.equal(ago(0, 61), "1 minute ago");
  assert.equal(ago(0, 7300), "2 hours ago");
  assert.equal(ago(2000, 1000), "just now"); // a clock that is behind
});

test("percent is against the size of the baseline", () => {
  assert.equal(percent(1.1, 1), "+10 %");
  assert.equal(percent(-0.9, -1), "+10 %");
  assert.equal(percent(0.5, 1), "−50 %");
  assert.equal(percent(1, 0), "");
});

test("ticks are short and exact", () => {
  assert.deepEqual([0, 200, 1e6, 1.5e6, 1234200, -2e7, 1e-9, 3e25].map(tick), [
    "0",
    "200",
    "1e6",
    "1.5e6",
    "1234200",
    "−2e7",
    "1e−9",
    "3e25",
  ]);
});
