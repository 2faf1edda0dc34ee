// The server's answers as the page uses them. docs/internals/view-wire.md describes them; a report embeds the same.

import { metrics, titles } from "./columns.ts";
import { decode, type TimedCurve } from "./container.ts";
import type { Importances, SweepData, SweepSummary } from "./sweep/model.ts";
import type {
  Alert,
  Change,
  ChartQuery,
  Curve,
  Medium,
  ProcessRow,
  RunDetail,
  RunRow,
  Scalar,
  Source,
  Spark,
  StepTime,
  SystemMetrics,
} from "./types.ts";

/** Where answers come from: a server or the report's own element. */
export interface Transport {
  live: boolean;
  opens?: string; // the view that is shown first
  get<T>(path: string): Promise<T>;
  post<T>(path: string, body: unknown): Promise<T>;
  chart(query: Record<string, unknown>, signal?: AbortSignal): Promise<ArrayBuffer>;
  file(run: string, path: string): string; // an address; "" where a report left the file out
  curves?(query: ChartQuery): Promise<Curve[]>; // where the answer needs reckoning in the page
  follow(changed: (changes: Change[]) => void, state: (connected: boolean) => void): () => void;
}

interface RunsAnswer {
  keys: string[];
  fields: {
    [name: string]: unknown[];
    id: string[];
    name: string[];
    tags: string[][];
    note: string[];
    archived: boolean[];
    status: string[];
    copy?: boolean[];
    pipeline: string[];
    started: number[];
    seconds: (number | null)[];
    attempt: number[];
    sweep: (string | null)[];
    error: (string | null)[];
  };
  columns: {
    kind: "config" | "metric";
    key: string;
    label: string;
    goal?: "min" | "max" | null;
    values: (Scalar | undefined)[];
    best?: (number | null)[];
    best_step?: (number | null)[];
    last_step?: (number | null)[];
  }[];
}

/** Turn the table, which comes by columns, into rows. */
export function rows({ keys, fields, columns }: RunsAnswer): RunRow[] {
  const labels = Object.fromEntries(
    columns.filter(({ kind }) => kind === "config").map(({ key, label }) => [key, label]),
  );
  const list = keys.map(
    (key, index): RunRow => ({
      id: key,
      runId: fields.id[index]!,
      name: fields.name[index] || fields.id[index]!,
      title: "",
      isNamed: Boolean(fields.name[index]),
      pipeline: fields.pipeline[index] ?? "",
      status: fields.status[index]!,
      tags: fields.tags[index] ?? [],
      note: fields.note[index] ?? "",
      archived: fields.archived[index] ?? false,
      isCopy: fields.copy?.[index] ?? false,
      started: fields.started[index] ?? 0,
      seconds: fields.seconds[index] ?? null,
      attempt: fields.attempt[index] ?? 1,
      error: fields.error[index] ?? "",
      sweep: fields.sweep[index] ?? "",
      trial: (fields.trial?.[index] as number | null | undefined) ?? null,
      config: {},
      labels,
      metrics: {},
    }),
  );
  for (const { kind, key, values, goal = null, best, best_step, last_step } of columns) {
    list.forEach((run, index) => {
      const value = values[index];
      if (kind === "config") {
        if (value !== null && value !== undefined) run.config[key] = value;
      } else if (typeof value === "number" || typeof last_step?.[index] === "number") {
        run.metrics[key] = {
          last: typeof value === "number" ? value : null,
          best: best?.[index] ?? null,
          best_step: best_step?.[index] ?? null,
          last_step: last_step?.[index] ?? null,
          goal,
        };
      }
    });
  }
  titles(list).forEach((title, index) => {
    list[index]!.title = title;
  });
  return list;
}

interface RunAnswer {
  processes: (ProcessRow & { began?: number | null })[] | null;
  attempts: Record<string, unknown>[] | null;
  checkpoints: Record<string, unknown>[] | null;
  provenance: Record<string, unknown> | null;
  config: unknown;
  logs: string[] | null;
  diff: boolean;
  verdict?: string;
  step_time?: StepTime[];
  alerts?: Alert[];
  run: { error?: { traceback?: string; message?: string } | null };
}

interface MediaItem {
  step: number;
  kind: string;
  name: string;
  file?: string;
  plain?: string;
  bytes?: number;
  masks?: Record<string, { file: string }>;
  boxes?: Record<string, { corners: [number, number, number, number]; label?: string; name?: string }[]>;
  [more: string]: unknown;
}

const MOST_LOG = 65536;

export function source(transport: Transport): Source {
  let title = "runs";
  let count = 0;
  let notes: string[] = [];
  const curves = async (query: ChartQuery, signal?: AbortSignal): Promise<Curve[]> => {
    if (!query.runs.length) return [];
    if (transport.curves) return transport.curves(query);
    const { metric, runs, axis, columns, from, to, smoothing } = query;
    const x = axis.startsWith("metric:") ? { metric: axis.slice("metric:".length) } : axis;
    const range = from === null || to === null ? null : [from, to];
    return decode(await transport.chart({ metric, runs, x, range, columns, smooth: smoothing }, signal));
  };
  const media = async (run: string): Promise<Medium[]> => {
    const { items } = await transport.get<{ items: MediaItem[] }>(`api/runs/${run}/media`);
    return items.map((item) => medium(run, item, (path) => transport.file(run, path)));
  };
  return {
    live: transport.live,
    opens: transport.opens ?? "",
    get title() {
      return title;
    },
    get count() {
      return count;
    },
    get notes() {
      return notes;
    },
    async runs() {
      const { roots, sweeps, copying, problems } = await transport.get<{
        roots: { path: string }[];
        sweeps: number;
        copying: number;
        problems: string[];
      }>("api/info");
      count = sweeps;
      notes = [
        ...(copying ? [`Reading ${copying} log${copying === 1 ? "" : "s"} of other trackers…`] : []),
        ...problems,
      ];
      title = titleOf(
        roots.map(({ path }) => path),
        transport.live,
      );
      return rows(await transport.get<RunsAnswer>("api/runs?archived=yes"));
    },
    async sparks(runs) {
      const byMetric = Map.groupBy(runs, (run) => metrics([run])[0] ?? "");
      byMetric.delete("");
      const found = new Map<string, Spark>();
      for (const [metric, members] of byMetric) {
        const ids = members.map((run) => run.id);
        const drawn = await curves({
          metric,
          runs: ids,
          axis: "step",
          columns: 48,
          from: null,
          to: null,
          smoothing: 0,
        });
        for (const { run, mean } of drawn) {
          const every = Math.ceil(mean.length / 48);
          found.set(run, { metric, values: [...mean.filter((_, index) => index % every === 0)] });
        }
      }
      return found;
    },
    curves,
    media: async (runs) => (await Promise.all(runs.map(media))).flat(),
    async detail(run) {
      const answer = await transport.get<RunAnswer>(`api/runs/${run}`);
      const detail: RunDetail = {
        processes: (answer.processes ?? []).map((process) => ({
          ...process,
          started: process.began ?? null,
        })),
        attempts: answer.attempts ?? [],
        checkpoints: answer.checkpoints ?? [],
        provenance: answer.provenance ?? {},
        config: answer.config,
        logs: answer.logs ?? [],
        hasDiff: answer.diff,
        traceback: answer.run.error?.traceback ?? "",
        verdict: answer.verdict ?? "",
        stepTimes: answer.step_time ?? [],
        alerts: answer.alerts ?? [],
      };
      return detail;
    },
    log: async (run, file) =>
      (
        await transport.get<{ text: string }>(
          `api/runs/${run}/log?file=${encodeURIComponent(file)}&offset=${-MOST_LOG}`,
        )
      ).text,
    system: async (run) => (await transport.get<{ ranks: SystemMetrics[] }>(`api/runs/${run}/system`)).ranks,
    diff: async (run) => (await transport.get<{ text: string }>(`api/runs/${run}/diff`)).text,
    sweeps: async () => (await transport.get<{ sweeps: SweepSummary[] }>("api/sweeps")).sweeps,
    sweep: (key) => transport.get<SweepData>(`api/sweeps/${key}`),
    importances: (key) => transport.get<Importances>(`api/sweeps/${key}/importances`),
    async text(url) {
      // a report's policy lets it ask for nothing, not even for what it holds
      if (!url.startsWith("data:")) return (await fetch(url)).text();
      const bytes = Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), (letter) => letter.charCodeAt(0));
      return new TextDecoder().decode(bytes);
    },
    async label(run, change) {
      await transport.post("api/labels", { runs: [run], ...change });
    },
    follow: transport.follow,
  };
}

/** Name the roots of a server, or the folder of the runs that a report holds. */
function titleOf(paths: string[], live: boolean): string {
  const folders = new Set(paths.map((path) => path.slice(0, path.lastIndexOf("/"))));
  const named = !live && paths.length > 1 && folders.size === 1 ? [...folders] : paths;
  const [first, ...more] = named.map((path) => path.split("/").slice(-2).join("/"));
  return first ? (more.length ? `${first} and ${more.length} more` : first) : "runs";
}

function medium(run: string, item: MediaItem, address: (path: string) => string): Medium {
  const { step, kind, name, file, plain, bytes, masks, boxes, ...rest } = item;
  const layers = Object.entries(masks ?? {}).map(([layer, mask]) => ({
    name: layer,
    url: address(mask.file),
  }));
  const marked = Object.values(boxes ?? {})
    .flat()
    .map(({ corners, label, name: of }) => ({ box: corners, label: of ?? label ?? "" }));
  const isGif = file?.endsWith(".gif") ?? false;
  const main = (layers.length || marked.length ? plain : undefined) ?? file;
  return {
    run,
    step,
    kind,
    name,
    bytes: bytes ?? 0,
    isGif,
    url: main ? address(main) : "",
    data: { ...rest, masks: layers, boxes: marked },
  };
}

/** Cut a curve to a range, over another x, smoothed: what a server would have answered. */
export function reckon(
  curve: TimedCurve,
  x: Float64Array,
  from: number | null,
  to: number | null,
  smooth: Float64Array | null,
): Curve {
  const order = Array.from(x.keys())
    .filter(
      (index) =>
        Number.isFinite(x[index]!) && x[index]! >= (from ?? -Infinity) && x[index]! <= (to ?? Infinity),
    )
    .sort((a, b) => x[a]! - x[b]!);
  const take = (values: Float64Array) => Float64Array.from(order, (index) => values[index]!);
  const mean = take(curve.mean);
  return {
    run: curve.run,
    x: take(x),
    mean,
    min: curve.min === curve.mean ? mean : take(curve.min),
    max: curve.max === curve.mean ? mean : take(curve.max),
    smooth: smooth ? take(smooth) : null,
    nonfinite: curve.nonfinite,
    exact: curve.exact,
  };
}
