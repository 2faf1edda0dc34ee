// Each trial's objective by its number, and the best so far.

import type { Picture } from "./drawing.tsx";
import { dot, type Look, line, nearest, ring, text } from "./ink.ts";
import type { Sweep } from "./model.ts";

const STRIDES = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 1e5, 1e6];

export function history(sweep: Sweep, passes: Uint8Array): Picture {
  const { trials, scale } = sweep.data;
  const { count } = sweep;
  const left = 68;
  const upper = 16;
  let right = 0;
  let lower = 0;
  const x = (row: number) => {
    const span = trials.number[count - 1]! - trials.number[0]!;
    return left + 10 + (span ? (trials.number[row]! - trials.number[0]!) / span : 0.5) * (right - left - 20);
  };
  const y = (place: number) => lower - 10 - place * (lower - upper - 20);
  const at = (row: number): [number, number] | null => {
    if (!passes[row]) return null;
    const place = trials.place[row] ?? null;
    if (place !== null) return [x(row), y(place)];
    return trials.status[row] === "failed" ? [x(row), lower] : null;
  };
  const cross = (ink: CanvasRenderingContext2D, row: number, colour: string) => {
    ink.strokeStyle = colour;
    ink.lineWidth = 2;
    ink.beginPath();
    for (const side of [-1, 1]) {
      ink.moveTo(x(row) - 4 * side, lower - 4);
      ink.lineTo(x(row) + 4 * side, lower + 4);
    }
    ink.stroke();
  };
  const best = (ink: CanvasRenderingContext2D, look: Look) => {
    ink.strokeStyle = look.best;
    ink.lineWidth = 2;
    ink.beginPath();
    let before: number | null = null;
    for (let row = 0; row < count; row++) {
      const place = trials.best[row] ?? null;
      if (place === null) continue;
      if (before === null) ink.moveTo(x(row), y(place));
      else ink.lineTo(x(row), y(before));
      ink.lineTo(x(row), y(place));
      before = place;
    }
    ink.stroke();
  };
  return {
    layout(width) {
      const height = Math.max(220, Math.min(340, width * 0.5));
      right = width - 16;
      lower = height - 44;
      return { width, height };
    },
    draw(ink, look) {
      ink.textBaseline = "middle";
      for (const [place, label] of scale.ticks) {
        line(ink, [left, y(place)], [right, y(place)], look.rule);
        text(ink, label, [left - 8, y(place)], left - 12, look.quiet, "right");
      }
      line(ink, [left, lower], [right, lower], look.quiet);
      ink.textBaseline = "top";
      const room = Math.max(2, (right - left) / 70);
      const stride = STRIDES.find((each) => count / each <= room)!;
      trials.number.forEach((number, row) => {
        if (number % stride === 0) text(ink, String(number), [x(row), lower + 8], 60, look.quiet, "center");
      });
      text(ink, "trial", [right, lower + 26], 60, look.quiet, "right");
      if (scale.target !== null) {
        ink.setLineDash([6, 4]);
        line(ink, [left, y(scale.target)], [right, y(scale.target)], look.target);
        ink.setLineDash([]);
      }
      best(ink, look);
      const size = count > 1000 ? 2 : count > 200 ? 3 : 4;
      for (let row = 0; row < count; row++) {
        const place = trials.place[row] ?? null;
        const own = trials.status[row] === "finished" ? look.point : look.quiet;
        if (place !== null) dot(ink, sweep, row, [x(row), y(place)], passes[row] ? own : look.rule, size);
        else if (trials.status[row] === "failed") cross(ink, row, passes[row] ? look.failed : look.rule);
      }
    },
    mark(ink, row, look) {
      const mark = at(row);
      if (mark) ring(ink, mark, look.text);
    },
    pick: (px, py) => nearest(count, [px, py], at),
  };
}
