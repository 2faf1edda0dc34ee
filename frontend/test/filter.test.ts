import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { compile, FilterError } from "../src/filter.ts";
import type { RunRow } from "../src/types.ts";

interface Cases {
  run: Partial<RunRow>;
  passes: string[];
  fails: string[];
  wrong: [string, number][];
}

// the same cases are put to the filters of `runs ls`
const CASES = JSON.parse(
  readFileSync(new URL("../../tests/view/filters.json", import.meta.url), "utf-8"),
) as Cases;
const RUN = CASES.run as RunRow;

test("what passes", () => {
  for (const text of CASES.passes) assert.equal(compile(text)(RUN), true, text);
});

test("what does not pass", () => {
  for (const text of CASES.fails) assert.equal(compile(text)(RUN), false, text);
});

test("what is wrong is located", () => {
  for (const [text, column] of CASES.wrong) {
    assert.throws(
      () => compile(text),
      (error) => error instanceof FilterError && error.at + 1 === column,
      text,
    );
  }
});

test("an empty filter lets every run through", () => {
  assert.equal(compile("  ")(RUN), true);
});
