// The charts: a section a prefix, one chart a metric, drawn when it comes into sight.

import { signal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type uPlot from "uplot";
import { metrics } from "./columns.ts";
import { csv, mean } from "./curves.ts";
import { Check, Menu, useAsked, useSeen, useWidth } from "./parts.tsx";
import { draw, type Line } from "./plot.ts";
import * as state from "./state.ts";
import { groupName } from "./table.tsx";
import type { Axis, Curve, RunRow, Source } from "./types.ts";

const range = signal<[number, number] | null>(null); // the zoom, common to all charts
const closed = signal<Set<string>>(new Set());

const UNDIVIDED = 9; // so few charts stand in one section

export function Charts({ source, runs }: { source: Source; runs: RunRow[] }) {
  const names = useMemo(() => {
    const search = state.metricSearch.value.toLowerCase();
    const pattern = regular(search);
    return metrics(runs).filter((name) => !search || pattern(name.toLowerCase()));
  }, [runs, state.metricSearch.value]);
  const sections = useMemo(
    (): [string, string[]][] => (names.length <= UNDIVIDED ? [["", names]] : sectionsOf(names)),
    [names],
  );
  const large = state.largeChart.value;

  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if (event.key === "Escape") {
        if (state.largeChart.value) state.largeChart.value = "";
        else range.value = null;
      }
    };
    document.addEventListener("keydown", key);
    return () => document.removeEventListener("keydown", key);
  }, []);

  if (!runs.length) return null;
  return (
    <section class="charts" aria-label="charts">
      {sections.map(([section, members]) => {
        const shut = closed.value.has(section);
        return (
          <div class="section" key={section}>
            <h2>
              <button
                type="button"
                aria-expanded={!shut}
                onClick={() => {
                  const next = new Set(closed.value);
                  if (shut) next.delete(section);
                  else next.add(section);
                  closed.value = next;
                }}
              >
                <span aria-hidden="true">{shut ? "▸" : "▾"}</span> {section || "metrics"}{" "}
                <small>{members.length}</small>
              </button>
            </h2>
            {shut ? null : (
              <div class="grid">
                {members.map((name) => (
                  <Chart key={name} source={source} metric={name} runs={runs} height={220} />
                ))}
              </div>
            )}
          </div>
        );
      })}
      {large && names.includes(large) ? (
        <div class="over" role="dialog" aria-modal="true" aria-label={large}>
          <div class="large">
            <Chart
              source={source}
              metric={large}
              runs={runs}
              height={Math.max(240, innerHeight - 150)}
              large
            />
          </div>
        </div>
      ) : null}
    </section>
  );
}

export function ChartMenu({ runs }: { runs: RunRow[] }) {
  const others = metrics(runs);
  return (
    <div class="controls">
      <label>
        x{" "}
        <select
          value={state.axis.value}
          onChange={(event) => {
            range.value = null;
            state.axis.value = event.currentTarget.value as Axis;
          }}
        >
          <option value="step">step</option>
          <option value="relative">relative time</option>
          <option value="time">wall time</option>
          {others.map((name) => (
            <option key={name} value={`metric:${name}`}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        Smoothing{" "}
        <input
          type="range"
          min="0"
          max="0.99"
          step="0.01"
          value={state.smoothing.value}
          onInput={(event) => {
            state.smoothing.value = Number(event.currentTarget.value);
          }}
        />{" "}
        <output>{state.smoothing.value ? state.smoothing.value.toFixed(2) : "off"}</output>
      </label>
      <Menu label="Axes">
        <Check
          checked={state.logX.value}
          label="logarithmic x"
          onChange={() => {
            state.logX.value = !state.logX.value;
          }}
        />
        <Check
          checked={state.logY.value}
          label="logarithmic y"
          onChange={() => {
            state.logY.value = !state.logY.value;
          }}
        />
        <Check
          checked={state.wholeY.value}
          label="outliers too"
          onChange={() => {
            state.wholeY.value = !state.wholeY.value;
          }}
        />
      </Menu>
      {range.value ? (
        <button
          type="button"
          class="primary"
          onClick={() => {
            range.value = null;
          }}
        >
          Whole range
        </button>
      ) : null}
    </div>
  );
}

interface ChartProps {
  source: Source;
  metric: string;
  runs: RunRow[];
  height: number;
  large?: boolean;
}

export function Chart({ source, metric, runs, height, large }: ChartProps) {
  const [card, seen] = useSeen<HTMLElement>();
  const [place, width] = useWidth<HTMLDivElement>();
  const plot = useRef<uPlot | null>(null);
  const [answer, setAnswer] = useState(0);
  const [isCut, setCut] = useState(false);
  const wanted = useMemo(
    () => runs.filter((run) => run.metrics[metric]).map((run) => run.id),
    [runs, metric],
  );
  const columns = Math.min(2000, Math.max(200, Math.ceil((width * devicePixelRatio) / 50) * 50));
  // What has changed is asked for when the answer before is there: runs that change faster than a
  // chart is answered would else never be drawn.
  const touched = wanted.some((run) => state.changedRuns.value.has(run));
  const [changed, version, waiting, rough] = [useRef(0), useRef(0), useRef(0), useRef(false)];
  if (touched) changed.current = state.version.value;
  if (!waiting.current && !rough.current) version.current = changed.current;
  const zoom = range.value;
  const ready = seen && width > 0;
  const query = {
    metric,
    runs: wanted,
    axis: state.axis.value,
    columns,
    from: zoom?.[0] ?? null,
    to: zoom?.[1] ?? null,
    smoothing: state.smoothing.value,
  };
  const { value: curves, error } = useAsked(
    async (signal) => {
      if (!ready) return new Promise<Curve[]>(() => {});
      waiting.current++;
      try {
        return await source.curves(query, signal);
      } finally {
        waiting.current--;
      }
    },
    [ready, JSON.stringify(query), version.current, answer],
  );
  const lines = useMemo(
    () => linesOf(curves ?? [], runs),
    [curves, runs, state.groupBy.value, state.colourOf.value],
  );
  const left = curves?.filter((curve) => !curve.exact).length ?? 0;
  const inexact = left > 0;
  rough.current = inexact; // it is asked for again in any case

  useEffect(() => {
    if (!inexact) return;
    // each answer takes time from the reading of the rest, so seldom while much is left
    const wait = 500 + (4000 * left) / Math.max(1, wanted.length);
    const again = setTimeout(() => setAnswer(answer + 1), wait);
    return () => clearTimeout(again);
  }, [inexact, answer]);

  useEffect(() => {
    if (!place.current || !width || !curves) return;
    plot.current = draw(place.current, lines, {
      width,
      height,
      axis: state.axis.value === "relative" ? "seconds" : state.axis.value.replace("metric:", ""),
      time: state.axis.value === "time",
      logX: state.logX.value,
      logY: state.logY.value,
      dark: state.dark.value,
      range: zoom,
      whole: state.wholeY.value,
      onCut: setCut,
      onZoom: (from, to) => {
        range.value = from === null || to === null ? null : [from, to];
      },
    });
    return () => {
      plot.current?.destroy();
      plot.current = null;
    };
  }, [lines, width, height, state.logX.value, state.logY.value, state.wholeY.value, state.dark.value]);

  const names = () => new Map(runs.map((run) => [run.id, run.title]));
  return (
    <article
      class="chart"
      ref={card}
      aria-label={`${metric}, ${wanted.length} runs`}
      data-drawn={curves ? lines.length : ""}
    >
      <header>
        <h3 title={metric}>
          <bdi>{metric}</bdi>
        </h3>
        {inexact ? <span class="hint">indexing…</span> : null}
        {isCut ? (
          <button
            type="button"
            class="cut"
            title="values far from all others are not in sight: show all values"
            onClick={() => {
              state.wholeY.value = true;
            }}
          >
            outliers cut off
          </button>
        ) : null}
        <span class="tools">
          <button
            type="button"
            title="keep this chart as a picture"
            aria-label={`${metric} as PNG`}
            onClick={() => plot.current && savePicture(plot.current, metric)}
          >
            PNG
          </button>
          <button
            type="button"
            title="keep these values as a table"
            aria-label={`${metric} as CSV`}
            onClick={() =>
              curves &&
              save(new Blob([csv(curves, query.axis, names())], { type: "text/csv" }), `${metric}.csv`)
            }
          >
            CSV
          </button>
          <button
            type="button"
            aria-label={large ? "close" : `${metric} large`}
            onClick={() => {
              state.largeChart.value = large ? "" : metric;
            }}
          >
            {large ? "✕" : "⤢"}
          </button>
        </span>
      </header>
      <div ref={place} class="plot" style={{ height: `${height}px` }}>
        {error ? <p class="problem">{error}</p> : curves ? null : <p class="wait">…</p>}
      </div>
    </article>
  );
}

function linesOf(curves: Curve[], runs: RunRow[]): Line[] {
  const byId = new Map(runs.map((run) => [run.id, run]));
  const keys = state.groupBy.value;
  const known = curves.filter((curve) => byId.has(curve.run));
  if (keys.length) {
    const groups = Map.groupBy(known, (curve) => groupName(byId.get(curve.run)!, keys));
    return [...groups].map(([name, members]): Line => {
      const curve = mean(members, name);
      const colour = state.colourOf.value.get(members[0]!.run)!;
      return {
        run: name,
        name: `${name} (${members.length})`,
        colour,
        x: curve.x,
        y: curve.mean,
        low: curve.min,
        high: curve.max,
        faint: false,
        nonfinite: curve.nonfinite,
      };
    });
  }
  const few = known.length <= 12;
  return known.flatMap((curve): Line[] => {
    const colour = state.colourOf.value.get(curve.run) ?? "#888888";
    const base = {
      run: curve.run,
      name: byId.get(curve.run)!.title,
      colour,
      x: curve.x,
      nonfinite: curve.nonfinite,
    };
    const spread = few && curve.min.some((low, index) => low !== curve.max[index]);
    const band = spread ? { low: curve.min, high: curve.max } : { low: null, high: null };
    if (!curve.smooth) return [{ ...base, y: curve.mean, ...band, faint: false }];
    const main: Line = { ...base, y: curve.smooth, low: null, high: null, faint: false };
    return few ? [{ ...base, y: curve.mean, ...band, faint: true }, main] : [main];
  });
}

/** Put metrics into sections by what stands before their last "/". */
export function sectionsOf(names: string[]): [string, string[]][] {
  const prefix = (name: string) => (name.includes("/") ? name.slice(0, name.lastIndexOf("/")) : "");
  return [...Map.groupBy(names, prefix)];
}

function regular(search: string): (name: string) => boolean {
  try {
    const pattern = new RegExp(search);
    return (name) => pattern.test(name);
  } catch {
    return (name) => name.includes(search);
  }
}

function save(content: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name.replaceAll(/[/\\]/g, "-");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function savePicture(chart: uPlot, name: string): void {
  const from = chart.ctx.canvas;
  const canvas = document.createElement("canvas");
  canvas.width = from.width;
  canvas.height = from.height;
  const ink = canvas.getContext("2d")!;
  ink.fillStyle = getComputedStyle(document.body).backgroundColor;
  ink.fillRect(0, 0, canvas.width, canvas.height);
  ink.drawImage(from, 0, 0);
  canvas.toBlob((blob) => blob && save(blob, `${name}.png`));
}
