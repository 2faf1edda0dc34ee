// One uPlot chart: curves with bands, linked zoom and a tooltip that ranks the runs.

import uPlot from "uplot";
import * as format from "./format.ts";
import { fade } from "./palette.ts";
import { breaksOf, logTicks, type Range, rangeOf, unitOf } from "./range.ts";

export interface Line {
  run: string;
  name: string;
  colour: string;
  x: Float64Array;
  y: Float64Array;
  low: Float64Array | null;
  high: Float64Array | null;
  faint: boolean; // the raw line under a smoothed one
  nonfinite: number[];
}

export interface PlotOptions {
  width: number;
  height: number;
  axis: string;
  time: boolean;
  logX: boolean;
  logY: boolean;
  dark: boolean;
  onZoom(from: number | null, to: number | null): void;
  range: [number, number] | null;
  whole: boolean; // whether y shows also values far from all others
  onCut(isCut: boolean): void; // told whether values lie outside
}

// charts with the same key show their cursors at the same x
const CURSORS = uPlot.sync("ridgepole");

export function draw(place: HTMLElement, lines: Line[], options: PlotOptions): uPlot {
  const [from, to] = options.range ?? [-Infinity, Infinity];
  const inSight = rangeOf(lines, from, to, { whole: options.whole, log: options.logY });
  const unit = unitOf(inSight);
  options.onCut(inSight?.isCut ?? false);
  const { data, series, bands } = table(unit === 1 ? lines : lines.map((line) => scaled(line, unit)));
  const ink = options.dark ? "#a7b0ba" : "#5b6470";
  const grid = options.dark ? "#ffffff14" : "#00000010";
  const axis = (): uPlot.Axis => ({
    stroke: ink,
    grid: { stroke: grid, width: 1 },
    ticks: { stroke: grid, width: 1, size: 4 },
    font: "11px system-ui, sans-serif",
  });
  const numbers = (times: number) => (_: uPlot, values: (number | null)[]) =>
    values.map((value) => (value === null ? "" : format.tick(value * times)));
  const chart = new uPlot(
    {
      width: options.width,
      height: options.height,
      series,
      bands,
      legend: { show: false },
      cursor: {
        sync: { key: CURSORS.key, setSeries: false, scales: ["x", null] },
        drag: { x: true, y: false, setScale: false },
        points: { size: 6 },
        focus: { prox: 24 },
      },
      scales: {
        x: {
          time: options.time,
          distr: options.logX ? 3 : 1,
          ...(options.range ? { range: options.range } : {}),
        },
        y: {
          distr: options.logY ? 3 : 1,
          range: inSight ? span(inSight, unit, options.logY) : options.logY ? [1, 10] : [0, 1],
        },
      },
      axes: [
        { ...axis(), size: options.time ? 44 : 32, ...(options.time ? {} : { values: numbers(1) }) },
        {
          ...axis(),
          size: (_, values) => 14 + 6.2 * Math.max(3, ...(values ?? []).map((text) => String(text).length)),
          values: numbers(unit),
          ...(options.logY
            ? {
                splits: (_: uPlot, __: number, low: number, high: number) => logTicks(low, high),
                filter: (_: uPlot, ticks: number[]) => ticks,
              }
            : {}),
        },
      ],
      hooks: {
        setSelect: [
          (self) => {
            if (self.select.width < 4) return;
            options.onZoom(
              self.posToVal(self.select.left, "x"),
              self.posToVal(self.select.left + self.select.width, "x"),
            );
            self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          },
        ],
        draw: [(self) => marks(self, lines)],
        setCursor: [(self) => tooltip(self, lines, options, unit)],
        destroy: [(self) => tips.get(self)?.remove()],
      },
    },
    data,
    place,
  );
  chart.over.addEventListener("dblclick", () => options.onZoom(null, null));
  chart.over.addEventListener("pointerenter", () => pointed.add(chart));
  chart.over.addEventListener("pointerleave", () => {
    pointed.delete(chart);
    const tip = tips.get(chart);
    if (tip) tip.hidden = true;
  });
  return chart;
}

function scaled(line: Line, unit: number): Line {
  const divided = (values: Float64Array | null) => values?.map((value) => value / unit) ?? null;
  return { ...line, y: divided(line.y)!, low: divided(line.low), high: divided(line.high) };
}

/** Leave some room beyond the lowest and the highest value, both in a unit. */
function span(range: Range, unit: number, log: boolean): [number, number] {
  const [low, high] = [range.low / unit, range.high / unit];
  if (log) return [low / 1.1, high * 1.1];
  const pad = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
  return [low - pad, high + pad];
}

/** Put all lines over one x, as uPlot wants it: a value, null where the line is broken, undefined where it has no point. */
export function table(lines: Line[]): {
  data: uPlot.AlignedData;
  series: uPlot.Series[];
  bands: uPlot.Band[];
} {
  const series: uPlot.Series[] = [{}];
  const bands: uPlot.Band[] = [];
  const tables: uPlot.AlignedData[] = [];
  for (const line of lines) {
    const columns: (Float64Array | (number | null)[])[] = [breaks(line.y)];
    series.push({
      label: line.name,
      stroke: line.faint ? fade(line.colour, 0.25) : line.colour,
      width: line.faint ? 1 : 1.6,
      points: { show: line.x.length === 1, size: 5 },
      spanGaps: false,
    });
    if (line.low && line.high) {
      const upper = series.length;
      columns.push(breaks(line.high), breaks(line.low));
      const edge: uPlot.Series = { stroke: "transparent", width: 0, points: { show: false } };
      series.push(edge, { ...edge });
      bands.push({ series: [upper, upper + 1], fill: fade(line.colour, 0.16) });
    }
    tables.push([line.x, ...columns] as unknown as uPlot.AlignedData);
  }
  if (!tables.length) return { data: [[]] as unknown as uPlot.AlignedData, series, bands };
  return { data: tables.length === 1 ? tables[0]! : uPlot.join(tables), series, bands };
}

function breaks(values: Float64Array): (number | null)[] {
  return Array.from(values, (value) => (Number.isFinite(value) ? value : null));
}

const MOST_MARKS = 8; // above each other

/** Mark where a line becomes NaN or infinite by a small cross in its colour, those of several runs above each other. */
function marks(chart: uPlot, lines: Line[]): void {
  const { ctx, bbox } = chart;
  const size = 3 * devicePixelRatio;
  const taken: [number, number][] = []; // the places of marks, from the lower edge on
  ctx.save();
  ctx.lineWidth = 1.5 * devicePixelRatio;
  for (const line of lines) {
    if (line.faint) continue;
    ctx.strokeStyle = line.colour;
    ctx.beginPath();
    for (const value of breaksOf(line)) {
      const x = chart.valToPos(value, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      let row = 0;
      while (row < MOST_MARKS && taken.some(([at, of]) => of === row && Math.abs(at - x) < 2.5 * size)) row++;
      taken.push([x, row]);
      const y = bbox.top + bbox.height - (2 + 3 * row) * size;
      ctx.moveTo(x - size, y - size);
      ctx.lineTo(x + size, y + size);
      ctx.moveTo(x + size, y - size);
      ctx.lineTo(x - size, y + size);
    }
    ctx.stroke();
  }
  ctx.restore();
}

const tips = new WeakMap<uPlot, HTMLElement>();
const pointed = new WeakSet<uPlot>();
const MOST_TIPS = 12;

/** Show the runs' values at the cursor, the highest first, beside the chart under the pointer. */
function tooltip(chart: uPlot, lines: Line[], options: PlotOptions, unit: number): void {
  let tip = tips.get(chart);
  const left = chart.cursor.left ?? -1;
  if (!pointed.has(chart) || left < 0) {
    if (tip) tip.hidden = true;
    return;
  }
  if (!tip) {
    tip = document.createElement("div");
    tip.className = "tip";
    document.body.append(tip);
    tips.set(chart, tip);
  }
  const at = chart.posToVal(left, "x");
  const rows = lines
    .filter((line) => !line.faint)
    .map((line) => ({ line, value: nearest(line, at) }))
    .filter((row): row is { line: Line; value: number } => row.value !== null)
    .sort((a, b) => b.value - a.value);
  const focus = chart.posToVal(chart.cursor.top ?? 0, "y") * unit;
  const close = rows.reduce<number>(
    (best, row, index) =>
      Math.abs(row.value - focus) < Math.abs((rows[best]?.value ?? Infinity) - focus) ? index : best,
    0,
  );
  const start = Math.max(0, Math.min(close - MOST_TIPS / 2, rows.length - MOST_TIPS));
  tip.replaceChildren();
  const head = document.createElement("b");
  head.textContent = `${options.axis} ${options.time ? format.moment(at) : format.number(options.axis === "step" ? Math.round(at) : at)}`;
  tip.append(head);
  rows.slice(start, start + MOST_TIPS).forEach(({ line, value }, index) => {
    const row = document.createElement("div");
    if (start + index === close) row.className = "close";
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.style.background = line.colour;
    const name = document.createElement("bdi");
    name.textContent = line.name;
    const number = document.createElement("span");
    number.className = "value";
    number.textContent = format.number(value);
    row.append(dot, name, number);
    tip.append(row);
  });
  if (rows.length > MOST_TIPS) {
    const rest = document.createElement("i");
    rest.textContent = `${rows.length} runs, ranks ${start + 1} to ${Math.min(rows.length, start + MOST_TIPS)}`;
    tip.append(rest);
  }
  tip.hidden = !rows.length;
  const box = chart.over.getBoundingClientRect();
  const x = box.left + left;
  const width = tip.offsetWidth;
  tip.style.left = `${Math.max(4, x + 16 + width < innerWidth ? x + 16 : x - 16 - width)}px`;
  tip.style.top = `${Math.max(4, Math.min(box.top + 8, innerHeight - tip.offsetHeight - 4))}px`;
}

function nearest(line: Line, at: number): number | null {
  const { x, y } = line;
  if (!x.length || at < x[0]! || at > x.at(-1)! + (x.at(-1)! - x[0]!) * 0.02) return null;
  let low = 0;
  let high = x.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle]! <= at) low = middle;
    else high = middle;
  }
  const index = at - x[low]! <= x[high]! - at ? low : high;
  const value = y[index]!;
  return Number.isFinite(value) ? value : null;
}
