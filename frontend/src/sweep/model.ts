// A sweep as the server describes it: trials are columns, and each parameter is an axis with a place for each of them.

import * as format from "../format.ts";

export interface SweepSummary {
  key: string;
  id: string;
  name?: string | null;
  status?: string;
  trials?: number;
  error?: string; // of one that can't be read
}

export interface Axis {
  name: string;
  kind: "linear" | "log" | "choice";
  step: number; // between two neighbours of a choice
  ticks: [place: number, label: string][];
  labels: string[]; // of the ticks, short
  places: (number | null)[]; // of each trial, from 0 to 1
  drawn: (number | null)[] | null; // trials with the same choice are spread over a band
  values: (number | null)[]; // numbers; of a choice the index of its tick
}

export interface Metric {
  name: string;
  goal: "minimize" | "maximize";
  values: (number | null)[];
}

export interface Importances {
  shares: [string, number][];
  note: string;
}

export interface SweepData {
  id: string;
  title: string;
  status: string;
  reason: string;
  counts: Record<string, number>;
  limit: number;
  metric: { name: string; goal: "minimize" | "maximize"; target: number | null };
  others: Metric[];
  front: number[];
  best: number | null;
  command: string;
  constants: [string, string][];
  importances: Importances | null; // null where they are asked for apart
  scale: { low: number; high: number; log: boolean; ticks: [number, string][]; target: number | null };
  axes: Axis[];
  trials: {
    number: number[];
    status: string[];
    value: (number | null)[];
    text: (string | null)[];
    place: (number | null)[];
    best: (number | null)[];
    run: (string | null)[];
    seconds: (number | null)[];
    error: string[];
  };
  runs: (string | null)[]; // keys of runs; the page may not have them
}

export type Ranges = ReadonlyMap<number, readonly [low: number, high: number]>; // by number of an axis, as places

export class Sweep {
  readonly data: SweepData;
  readonly count: number;
  readonly maximises: boolean;
  readonly objective: Axis;
  readonly axes: Axis[]; // the objective comes after the parameters

  constructor(data: SweepData) {
    this.data = data;
    const { trials, scale, metric } = data;
    this.count = trials.number.length;
    this.maximises = metric.goal === "maximize";
    this.objective = {
      name: metric.name,
      kind: scale.log ? "log" : "linear",
      step: 0,
      ticks: scale.ticks,
      labels: scale.ticks.map(([, label]) => label),
      places: trials.place,
      drawn: null,
      values: trials.value,
    };
    this.axes = [...data.axes, this.objective];
  }

  /** How good a trial is, from 0 to 1; null without a value. */
  goodness(row: number): number | null {
    const place = this.data.trials.place[row] ?? null;
    return place === null ? null : this.maximises ? place : 1 - place;
  }

  lateness(row: number): number {
    return this.count > 1 ? row / (this.count - 1) : 1;
  }

  /** Tell whether a value is beyond the end of the objective's axis, where it is drawn. */
  isBeyond(row: number): boolean {
    const value = this.data.trials.value[row] ?? null;
    return value !== null && (value < this.data.scale.low || value > this.data.scale.high);
  }

  isBest(row: number): boolean {
    const number = this.data.trials.number[row]!;
    return number === this.data.best || this.data.front.includes(number);
  }

  /** A trial's value on an axis, as text. */
  shown(axis: Axis, row: number): string {
    const value = axis.values[row] ?? null;
    if (value === null) return "";
    if (axis === this.objective) return this.data.trials.text[row] ?? "";
    return axis.kind === "choice" ? axis.ticks[value]![1] : brief(value);
  }

  /** Which trials pass all ranges; those without a value on a filtered axis do not. */
  passing(ranges: Ranges, isWanted: (row: number) => boolean): Uint8Array {
    const passes = new Uint8Array(this.count);
    for (let row = 0; row < this.count; row++) {
      passes[row] = Number(
        isWanted(row) &&
          [...ranges].every(([index, [low, high]]) => {
            const place = this.axes[index]?.places[row] ?? null;
            return place !== null && place >= low && place <= high;
          }),
      );
    }
    return passes;
  }
}

/** Where a trial's mark stands on an axis. */
export function spot(axis: Axis, row: number): number | null {
  return (axis.drawn ?? axis.places)[row] ?? null;
}

/** The axis of a metric that the sweep does not optimise. */
export function axisOf(name: string, values: (number | null)[]): Axis {
  const finite = values.filter((value): value is number => value !== null && Number.isFinite(value));
  const low = finite.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const high = finite.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const isFlat = !(high > low);
  const place = (value: number | null) =>
    value === null || !Number.isFinite(value) ? null : isFlat ? 0.5 : (value - low) / (high - low);
  const at = isFlat ? [0.5] : [0, 0.25, 0.5, 0.75, 1];
  const ticks = at.map((share): [number, string] => [
    share,
    finite.length ? brief(isFlat ? low : low + (high - low) * share) : "",
  ]);
  return {
    name,
    kind: "linear",
    step: 0,
    ticks,
    labels: ticks.map(([, label]) => label),
    places: values.map(place),
    drawn: null,
    values,
  };
}

export function brief(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  return String(Number(value.toPrecision(4)));
}

export function plural(count: number, noun: string): string {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

export interface Column {
  name: string;
  numeric: boolean;
  key(row: number): number | string | null;
  text(row: number): string;
}

/** The columns of the table of trials. */
export function columnsOf(sweep: Sweep): Column[] {
  const { trials, others, axes } = sweep.data;
  const columns: Column[] = [
    {
      name: "trial",
      numeric: true,
      key: (row) => trials.number[row]!,
      text: (row) => String(trials.number[row]),
    },
    { name: "status", numeric: false, key: (row) => trials.status[row]!, text: (row) => trials.status[row]! },
    {
      name: sweep.objective.name,
      numeric: true,
      key: (row) => trials.value[row] ?? null,
      text: (row) => trials.text[row] ?? "",
    },
    ...others.map(({ name, values }) => ({
      name,
      numeric: true,
      key: (row: number) => values[row] ?? null,
      text: (row: number) => (values[row] === null ? "" : brief(values[row]!)),
    })),
    ...axes.map((axis) => ({
      name: axis.name,
      numeric: axis.kind !== "choice",
      key: (row: number) => axis.values[row] ?? null,
      text: (row: number) => sweep.shown(axis, row),
    })),
    {
      name: "time",
      numeric: true,
      key: (row) => trials.seconds[row] ?? null,
      text: (row) => format.duration(trials.seconds[row] ?? null),
    },
    {
      name: "run",
      numeric: false,
      key: (row) => trials.run[row] ?? null,
      text: (row) => trials.run[row] ?? "",
    },
  ];
  if (trials.error.some(Boolean))
    columns.push({
      name: "error",
      numeric: false,
      key: (row) => trials.error[row] || null,
      text: (row) => trials.error[row]!,
    });
  return columns;
}

/** Sort rows by a column; those without a value come last, and equals keep their order. */
export function sortRows(rows: number[], { key }: Column, down: boolean): number[] {
  const sign = down ? -1 : 1;
  return rows
    .map((row) => [row, key(row)] as const)
    .sort(([a, one], [b, other]) => {
      if (one === null || other === null) return Number(one === null) - Number(other === null) || a - b;
      return sign * (one < other ? -1 : one > other ? 1 : 0) || a - b;
    })
    .map(([row]) => row);
}
