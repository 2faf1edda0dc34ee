// What the page knows of a run. The server's answers and an embedded report have the same shapes.

import type { Importances, SweepData, SweepSummary } from "./sweep/model.ts";

export type Scalar = number | string | boolean | null;

export interface MetricSummary {
  last: number | null; // null where it is not finite
  best: number | null; // null where the goal is not known
  best_step: number | null;
  last_step: number | null;
  goal: "min" | "max" | null;
}

export interface RunRow {
  id: string; // the key of the run: it stays as long as the directory does
  runId: string; // 20261122-101500-7f3a91c2
  name: string; // the run id where it has no name
  title: string; // the name, and what tells the run from others of the same name
  isNamed: boolean;
  pipeline: string;
  status: string;
  tags: string[];
  note: string;
  archived: boolean;
  isCopy: boolean; // of another tracker's log: its labels can't be changed
  started: number; // seconds since the epoch
  seconds: number | null;
  attempt: number;
  error: string;
  config: Record<string, Scalar>; // flat: "permanences.network.params.hidden"
  labels: Record<string, string>; // the short names of parameters
  metrics: Record<string, MetricSummary>;
  sweep: string;
  trial: number | null; // of the sweep
}

/** One run's curve of one metric, cut to as many columns as there are pixels. */
export interface Curve {
  run: string;
  x: Float64Array;
  mean: Float64Array;
  min: Float64Array;
  max: Float64Array;
  smooth: Float64Array | null;
  nonfinite: number[]; // x of values that are NaN or infinite
  exact: boolean; // false while the index is being made
}

/** A small curve, for a row of the table. */
export interface Spark {
  metric: string;
  values: number[];
}

export type Axis = "step" | "relative" | "time" | `metric:${string}`;

export interface ChartQuery {
  metric: string;
  runs: string[];
  axis: Axis;
  columns: number;
  from: number | null;
  to: number | null;
  smoothing: number;
}

export interface Medium {
  run: string;
  name: string;
  kind: string; // "image", "figure", "table", "text", "histogram", "audio", "video", "html", "artifact"
  step: number;
  url: string; // "" where the report left the file out
  bytes: number;
  isGif: boolean; // a video of frames, which <img> plays and <video> does not
  data: Record<string, unknown>;
}

export interface ProcessRow {
  name: string;
  status: string;
  seconds: number;
  started: number | null;
  reason: string;
}

export interface RunDetail {
  processes: ProcessRow[];
  attempts: Record<string, unknown>[];
  checkpoints: Record<string, unknown>[];
  provenance: Record<string, unknown>;
  config: unknown; // as it was used
  logs: string[];
  hasDiff: boolean;
  traceback: string;
  verdict: string; // on the step times; "" where there are none
  stepTimes: StepTime[];
  alerts: Alert[];
}

/** Where the time of one rank's steps went, in seconds. */
export interface StepTime {
  rank: number;
  seconds: number;
  steps: number;
  code: number;
  data: number;
  logging: number;
  checkpoints: number;
  ranks: number;
  rates: Record<string, number>;
}

export interface Alert {
  time: number; // seconds since the epoch
  level: "info" | "warning" | "error";
  kind: string;
  title: string;
  text: string;
  step: number | null;
  rank: number;
}

/** The system metrics of one rank. */
export interface SystemMetrics {
  rank: number;
  header: {
    node?: string;
    cpus?: number;
    limit_cpus?: number | null;
    limit_memory_bytes?: number | null;
    cards?: { card: string; name: string }[];
  };
  series: Record<string, { time: number[]; value: number[] }>;
}

export type Change = { kind: "runs" } | { kind: "metrics"; runs: string[] };

/** Where the page's data come from: a server, or the page itself. */
export interface Source {
  readonly live: boolean;
  readonly title: string;
  readonly opens: string; // the view that is shown first; "" for that of the runs
  readonly count: number; // of sweeps
  readonly notes: string[]; // on logs of other trackers
  runs(): Promise<RunRow[]>;
  sparks(runs: RunRow[]): Promise<Map<string, Spark>>;
  curves(query: ChartQuery, signal: AbortSignal): Promise<Curve[]>;
  media(runs: string[]): Promise<Medium[]>;
  detail(run: string): Promise<RunDetail>;
  log(run: string, file: string): Promise<string>;
  system(run: string): Promise<SystemMetrics[]>;
  diff(run: string): Promise<string>;
  sweeps(): Promise<SweepSummary[]>;
  sweep(key: string): Promise<SweepData>;
  importances(key: string): Promise<Importances>;
  text(url: string): Promise<string>;
  label(
    run: string,
    change: { name?: string; note?: string; tags?: string[]; archived?: boolean },
  ): Promise<void>;
  follow(changed: (changes: Change[]) => void, state: (connected: boolean) => void): () => void;
}
