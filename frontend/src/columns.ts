// The columns of the table of runs: which there are, which are shown, and what stands in them.

import { lookUp } from "./filter.ts";
import * as format from "./format.ts";
import type { RunRow } from "./types.ts";

export interface Column {
  key: string; // what a filter calls it
  label: string;
  group: "run" | "parameter" | "metric";
  numeric: boolean;
  goal?: "min" | "max" | null; // of a metric
  text(run: RunRow, now: number): string;
  value(run: RunRow): unknown;
}

const STARTED: Column = {
  key: "started",
  label: "started",
  group: "run",
  numeric: false,
  text: (run, now) => format.ago(run.started, now),
  value: (run) => run.started,
};
const SECONDS: Column = {
  key: "seconds",
  label: "duration",
  group: "run",
  numeric: true,
  text: (run) => format.duration(run.seconds),
  value: (run) => run.seconds,
};
const PIPELINE: Column = {
  key: "pipeline",
  label: "pipeline",
  group: "run",
  numeric: false,
  text: (run) => run.pipeline,
  value: (run) => run.pipeline,
};

const MOST_METRICS = 8;
const MOST_PARAMETERS = 12;

/** Parameters of the runs; with `differing`, those alone whose value is not the same in all. */
export function parameters(runs: RunRow[], differing: boolean): string[] {
  const values = new Map<string, { first: string; same: boolean; count: number }>();
  for (const run of runs) {
    for (const [key, value] of Object.entries(run.config)) {
      const text = JSON.stringify(value);
      const known = values.get(key);
      if (!known) values.set(key, { first: text, same: true, count: 1 });
      else {
        known.count++;
        if (known.first !== text) known.same = false;
      }
    }
  }
  // settings of Ridgepole's own say nothing about a run
  const isOwn = (name: string) => name.startsWith("pipeline.");
  const names = [...values].filter(
    ([name, { same, count }]) => !differing || (!isOwn(name) && (!same || count < runs.length)),
  );
  return names.map(([name]) => name);
}

/** The short names of parameters, which filters take as well. */
export function labelsOf(runs: RunRow[]): Record<string, string> {
  return runs[0]?.labels ?? {};
}

/** Metrics of the runs, those first that most runs have, validation before training. */
export function metrics(runs: RunRow[]): string[] {
  const count = new Map<string, number>();
  for (const run of runs)
    for (const name of Object.keys(run.metrics)) count.set(name, (count.get(name) ?? 0) + 1);
  const rank = (name: string) => (/^(val|valid|validation|test|eval)[/_]/.test(name) ? 0 : 1);
  return [...count]
    .sort(([a, n], [b, m]) => rank(a) - rank(b) || m - n || (a < b ? -1 : 1))
    .map(([name]) => name);
}

/** Every column that these runs could show. */
export function all(runs: RunRow[]): Column[] {
  const keys = parameters(runs, false);
  const labels = labelsOf(runs);
  return [
    STARTED,
    SECONDS,
    PIPELINE,
    ...keys.map((key): Column => parameter(key, labels[key] ?? key, runs)),
    ...metrics(runs).map((name) => metric(name, runs)),
  ];
}

/** The columns to show: the chosen ones, else those that say most. */
export function shown(runs: RunRow[], chosen: string[], differing: boolean): Column[] {
  if (chosen.length) {
    const known = new Map(all(runs).map((column) => [column.key, column]));
    return chosen.flatMap((key) => known.get(key) ?? []);
  }
  // one run differs from none: what its processes were given says most
  const wanted =
    runs.length > 1
      ? parameters(runs, differing)
      : parameters(runs, false).filter((key) => key.startsWith("processes."));
  const keys = wanted.slice(0, MOST_PARAMETERS);
  const labels = labelsOf(runs);
  const severalPipelines = new Set(runs.map((run) => run.pipeline)).size > 1;
  return [
    ...metrics(runs)
      .slice(0, MOST_METRICS)
      .map((name) => metric(name, runs)),
    ...keys.map((key) => parameter(key, labels[key] ?? key, runs)),
    ...(severalPipelines ? [PIPELINE] : []),
    STARTED,
    SECONDS,
  ];
}

function parameter(key: string, label: string, runs: RunRow[]): Column {
  return {
    key,
    label,
    group: "parameter",
    numeric: runs.every((run) => typeof (run.config[key] ?? 0) === "number"),
    text: (run) => (key in run.config ? format.value(run.config[key]) : ""),
    value: (run) => run.config[key],
  };
}

function metric(name: string, runs: RunRow[]): Column {
  return {
    key: name,
    label: name,
    group: "metric",
    numeric: true,
    goal: runs.find((run) => run.metrics[name])?.metrics[name]?.goal ?? null,
    text: (run) => (run.metrics[name] ? format.number(run.metrics[name].last ?? Number.NaN) : ""),
    value: (run) => run.metrics[name]?.last,
  };
}

/** A metric with a goal whose last value is NaN or infinite; undefined where there is none. */
export function lostMetric(run: RunRow): string | undefined {
  return Object.entries(run.metrics).find(([, { goal, last }]) => goal && last === null)?.[0];
}

/** The status in words: "finished, loss is not finite". */
export function statusOf(run: RunRow): string {
  const lost = lostMetric(run);
  return `${run.status.replaceAll("_", " ")}${lost ? `, ${lost} is not finite` : ""}`;
}

/** The best last value of a metric's column; undefined where its goal is not known, or one run alone has a value. */
export function best(runs: RunRow[], column: Column): number | undefined {
  const values = runs.map((run) => column.value(run)).filter((value) => typeof value === "number");
  if (!column.goal || values.length < 2) return undefined;
  return column.goal === "min" ? values.reduce(lower) : values.reduce(higher);
}

const lower = (a: number, b: number) => Math.min(a, b);
const higher = (a: number, b: number) => Math.max(a, b);

const MOST_TOLD_APART = 200;
const MOST_IN_TITLE = 3;

/**
 * Title runs by their names. Where several have one name, parameters that differ between them tell
 * them apart ("mlp lr=0.1"), or else the ends of their ids.
 */
export function titles(runs: RunRow[]): string[] {
  const found = new Map(runs.map((run) => [run, run.name]));
  for (const [name, members] of Map.groupBy(runs, (run) => run.name)) {
    if (members.length < 2) continue;
    const text = (run: RunRow, key: string) =>
      `${run.labels[key] ?? key}=${key in run.config ? format.value(run.config[key]) : "–"}`;
    const counted = (members.length <= MOST_TOLD_APART ? parameters(members, true) : [])
      .map((key) => ({ key, count: new Set(members.map((run) => text(run, key))).size }))
      .sort((a, b) => b.count - a.count);
    const keys: string[] = [];
    const title = (run: RunRow) => [name, ...keys.map((key) => text(run, key))].join(" ");
    const distinct = () => new Set(members.map(title)).size;
    for (const { key } of counted) {
      if (keys.length === MOST_IN_TITLE || distinct() === members.length) break;
      const before = distinct();
      keys.push(key);
      if (distinct() === before) keys.pop();
    }
    for (const alike of Map.groupBy(members, title).values())
      for (const run of alike)
        found.set(run, alike.length > 1 ? `${title(run)} ${run.runId.slice(-8)}` : title(run));
  }
  return runs.map((run) => found.get(run)!);
}

/** Sort runs by a column's name; "-" before it turns the order round. Missing values always come last. */
export function sorted(runs: RunRow[], by: string): RunRow[] {
  const reverse = by.startsWith("-");
  const key = reverse ? by.slice(1) : by;
  const value = (run: RunRow) => lookUp(run, key);
  const missing = (of: unknown) => of === undefined || of === null || of === "" || Number.isNaN(of);
  return runs
    .map((run) => ({ run, value: value(run) }))
    .sort((a, b) => {
      if (missing(a.value) || missing(b.value))
        return Number(missing(a.value)) - Number(missing(b.value)) || newest(a.run, b.run);
      const order = compare(a.value, b.value);
      return (reverse ? -order : order) || newest(a.run, b.run);
    })
    .map(({ run }) => run);
}

/** Order runs from the newest on; ids of runs sort by time, keys (`id`) do not. */
export function newest(a: RunRow, b: RunRow): number {
  return b.started - a.started || (a.runId < b.runId ? 1 : -1);
}

function compare(a: unknown, b: unknown): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number" || typeof b === "number") return typeof a === "number" ? -1 : 1;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}
