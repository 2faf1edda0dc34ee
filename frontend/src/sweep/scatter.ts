// Small panels: the objective over each parameter, and one metric over another.

import type { Picture } from "./drawing.tsx";
import { dot, FONT, line, nearest, ring, shade, spaced, text } from "./ink.ts";
import { type Axis, type Sweep, spot } from "./model.ts";

const LEFT = 60;
const TALL = 210;

interface Panels {
  passes: Uint8Array;
  emphasis?: string; // a parameter
  colour?: "lateness" | "point"; // by the order of trials, or all the same
  front?: number[]; // rows that a line joins
}

export function scatter(sweep: Sweep, axes: Axis[], panels: Panels): Picture {
  const { passes, emphasis = "", colour = "lateness", front = [] } = panels;
  const { count, objective } = sweep;
  let across = 1;
  let panel = 0;
  const bounds = (index: number) => {
    const left = LEFT + (index % across) * panel;
    const top = Math.floor(index / across) * TALL;
    return { left, right: left + panel - 16, top: top + 26, bottom: top + TALL - 34 };
  };
  const insetOf = (axis: Axis, length: number) => (axis.kind === "choice" ? Math.min(40, length / 4) : 10);
  const at = (index: number, row: number): [number, number] | null => {
    const axis = axes[index]!;
    const place = axis.places[row] ?? null;
    const height = objective.places[row] ?? null;
    if (place === null || height === null) return null;
    const { left, right, top, bottom } = bounds(index);
    const inset = insetOf(axis, right - left);
    const reach = right - left - 2 * inset;
    const aside = (spot(axis, row)! - place) * Math.max(1, 5 * axis.step) * reach; // more room than beside an axis
    const x = left + inset + place * reach + Math.max(-inset, Math.min(inset, aside));
    return [x, bottom - 8 - height * (bottom - top - 16)];
  };
  const frame = (
    ink: CanvasRenderingContext2D,
    axis: Axis,
    index: number,
    look: Parameters<Picture["draw"]>[1],
  ) => {
    const { left, right, top, bottom } = bounds(index);
    ink.textBaseline = "middle";
    for (const [place, label] of spaced(objective, bottom - top - 16, 14)) {
      const y = bottom - 8 - place * (bottom - top - 16);
      line(ink, [left, y], [right, y], look.rule);
      if (index % across === 0) text(ink, label, [left - 8, y], LEFT - 10, look.quiet, "right");
    }
    line(ink, [left, bottom], [right, bottom], look.quiet);
    ink.textBaseline = "alphabetic";
    ink.font = axis.name === emphasis ? `bold ${FONT}` : FONT;
    text(ink, axis.name, [left, top - 10], right - left, look.text);
    ink.font = FONT;
    ink.textBaseline = "top";
    const inset = insetOf(axis, right - left);
    const length = right - left - 2 * inset;
    const written = spaced(axis, length, axis.kind === "choice" ? 44 : 40);
    const room =
      written.length > 1 ? Math.max(36, (written[1]![0] - written[0]![0]) * length - 6) : right - left;
    for (const [place, label] of written)
      text(
        ink,
        label,
        [left + inset + place * length, bottom + 6],
        Math.min(room, 2 * inset + 40),
        look.quiet,
        "center",
      );
  };
  return {
    layout(width) {
      across = Math.max(1, Math.min(axes.length, Math.floor((width - LEFT) / 220)));
      panel = (width - LEFT) / across;
      return { width, height: Math.max(1, Math.ceil(axes.length / across)) * TALL };
    },
    draw(ink, look) {
      for (const [index, axis] of axes.entries()) frame(ink, axis, index, look);
      const size = count > 1000 ? 1.5 : count > 200 ? 2.5 : 3.5;
      axes.forEach((_, index) => {
        for (const shown of [0, 1])
          for (let row = 0; row < count; row++) {
            if (passes[row] !== shown) continue;
            const mark = at(index, row);
            const own = colour === "point" ? look.point : shade(look, sweep.lateness(row));
            if (mark) dot(ink, sweep, row, mark, shown ? own : look.rule, size);
          }
        if (!front.length) return;
        ink.strokeStyle = look.best;
        ink.lineWidth = 1.6;
        ink.beginPath();
        for (const row of front) {
          const mark = at(index, row);
          if (mark) ink.lineTo(...mark); // the first only moves the pen
        }
        ink.stroke();
      });
    },
    mark(ink, row, look) {
      if (!passes[row]) return;
      axes.forEach((_, index) => {
        const mark = at(index, row);
        if (mark) ring(ink, mark, look.text);
      });
    },
    pick(x, y) {
      const index = Math.floor(y / TALL) * across + Math.floor((x - LEFT) / panel);
      if (x < LEFT || index >= axes.length) return null;
      return nearest(count, [x, y], (row) => (passes[row] ? at(index, row) : null));
    },
  };
}
