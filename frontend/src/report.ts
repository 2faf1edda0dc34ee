// A report's own element as the place where answers come from: the same page in one file, without a server.

import { reckon, type Transport } from "./answers.ts";
import { decode, type TimedCurve } from "./container.ts";
import { smooth } from "./curves.ts";
import type { ChartQuery, Curve } from "./types.ts";

export interface Report {
  opens?: string;
  info: unknown;
  runs: unknown;
  run: Record<string, unknown>;
  media: Record<string, unknown>;
  logs: Record<string, Record<string, unknown>>;
  diffs: Record<string, unknown>;
  system?: Record<string, unknown>;
  sweeps: unknown;
  sweep: Record<string, unknown>;
  files: Record<string, string>;
  charts: Record<string, string>; // a metric's container in base64
}

export function report(data: Report): Transport {
  const known = new Map<string, TimedCurve[]>();
  const all = (metric: string): TimedCurve[] => {
    let curves = known.get(metric);
    if (!curves) {
      const text = data.charts[metric];
      curves = text ? decode(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer) : [];
      known.set(metric, curves);
    }
    return curves;
  };
  return {
    live: false,
    opens: data.opens ?? "",
    async get<T>(path: string): Promise<T> {
      const answer = find(data, path);
      if (answer === undefined) throw new Error("This report does not hold that.");
      return answer as T;
    },
    async post() {
      throw new Error("A report can't change a run.");
    },
    async chart() {
      throw new Error("A report draws from its own columns.");
    },
    curves: async (query) => curves(all, query),
    file: (run, path) => data.files[`${run}/${path}`] ?? "",
    follow: () => () => {},
  };
}

function find(data: Report, path: string): unknown {
  const [place = "", query = ""] = path.split("?");
  const [, what, key = "", part] = place.split("/");
  if (what === "info") return data.info;
  if (what === "sweeps") return key ? data.sweep[key] : data.sweeps;
  if (!key) return data.runs;
  if (!part) return data.run[key];
  if (part === "media") return data.media[key] ?? { items: [] };
  if (part === "system") return data.system?.[key] ?? { ranks: [] };
  if (part === "diff") return data.diffs[key];
  return data.logs[key]?.[new URLSearchParams(query).get("file") ?? ""];
}

/** Answer a chart's question from the columns that the report holds. */
export function curves(all: (metric: string) => TimedCurve[], query: ChartQuery): Curve[] {
  const wanted = new Set(query.runs);
  return all(query.metric)
    .filter((curve) => wanted.has(curve.run))
    .flatMap((curve) => {
      const x = places(all, curve, query.axis);
      if (!x) return [];
      const bad = new Set(curve.nonfinite);
      const answer = reckon(
        curve,
        x,
        query.from,
        query.to,
        query.smoothing ? smooth(curve.mean, query.smoothing) : null,
      );
      const moved =
        query.axis === "step"
          ? curve.nonfinite
          : [...curve.x.keys()].filter((index) => bad.has(curve.x[index]!)).map((index) => x[index]!);
      return { ...answer, nonfinite: moved };
    });
}

function places(all: (metric: string) => TimedCurve[], curve: TimedCurve, axis: string): Float64Array | null {
  if (axis === "step") return curve.x;
  if (axis === "time") return curve.time;
  if (axis === "relative") return curve.time ? curve.time.map((time) => time - curve.time![0]!) : null;
  const other = all(axis.slice("metric:".length)).find(({ run }) => run === curve.run);
  if (!other) return null;
  const at = new Map(Array.from(other.x, (step, index) => [step, other.mean[index]!]));
  return curve.x.map((step) => at.get(step) ?? Number.NaN);
}
