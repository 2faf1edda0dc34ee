// How drawings of a sweep put lines, words and marks on a canvas.

import type { Axis, Sweep } from "./model.ts";

export const FONT = "12px system-ui, sans-serif";

export interface Look {
  text: string;
  quiet: string;
  rule: string;
  page: string;
  point: string;
  best: string;
  target: string;
  failed: string;
  ramp: string[]; // from bad, or early, to good, or late
}

// Viridis (Smith and van der Walt 2015, CC0), whose lightness rises all the way, without the steps that hardly show;
// the others are Okabe and Ito's.
const VIRIDIS = [
  "#440154",
  "#472d7b",
  "#3b528b",
  "#2c728e",
  "#21918c",
  "#28ae80",
  "#5ec962",
  "#addc30",
  "#fde725",
];
const LIGHT: Look = {
  text: "#1b2126",
  quiet: "#5b6470",
  rule: "#d5d9df",
  page: "#ffffff",
  point: "#0072b2",
  best: "#d55e00",
  target: "#009e73",
  failed: "#cc79a7",
  ramp: VIRIDIS.slice(0, 8).reverse(),
};
const DARK: Look = {
  ...LIGHT,
  text: "#e6e9ec",
  quiet: "#a0a9b3",
  rule: "#39434e",
  page: "#0f1317",
  point: "#56b4e9",
  best: "#ff8c42",
  target: "#2fd6a3",
  failed: "#f2a3cc",
  ramp: VIRIDIS.slice(1),
};

export function look(dark: boolean): Look {
  return dark ? DARK : LIGHT;
}

export const SHADES = 32;

/** A colour of the ramp, from 0 to 1. */
export function shade({ ramp }: Look, share: number): string {
  const at = (Math.min(SHADES - 1, Math.floor(share * SHADES)) / (SHADES - 1)) * (ramp.length - 1);
  const [below, above] = [ramp[Math.floor(at)]!, ramp[Math.ceil(at)]!];
  const mixed = [1, 3, 5].map((from) => {
    const [a, b] = [below, above].map((colour) => Number.parseInt(colour.slice(from, from + 2), 16));
    return Math.round(a! + (b! - a!) * (at % 1));
  });
  return `rgb(${mixed.join(" ")})`;
}

/** Shorten words in their middle until they fit. */
export function cut(ink: CanvasRenderingContext2D, words: string, width: number): string {
  if (ink.measureText(words).width <= width) return words;
  const letters = [...words];
  for (let kept = Math.min(letters.length - 1, Math.floor(width / 3)); kept > 1; kept--) {
    const start = Math.ceil(kept / 2);
    const short = `${letters.slice(0, start).join("")}…${letters.slice(letters.length - kept + start).join("")}`;
    if (ink.measureText(short).width <= width) return short;
  }
  return "…";
}

type Spot = [x: number, y: number];

export function line(ink: CanvasRenderingContext2D, from: Spot, to: Spot, colour: string): void {
  ink.strokeStyle = colour;
  ink.lineWidth = 1;
  ink.beginPath();
  ink.moveTo(...from);
  ink.lineTo(...to);
  ink.stroke();
}

export function text(
  ink: CanvasRenderingContext2D,
  words: string,
  [x, y]: Spot,
  width: number,
  colour: string,
  align: CanvasTextAlign = "left",
): void {
  ink.fillStyle = colour;
  ink.textAlign = align;
  ink.fillText(cut(ink, words, width), x, y);
}

/** The ticks of an axis that can be written without touching each other. */
export function spaced(axis: Axis, length: number, gap: number): [place: number, label: string][] {
  let last = Number.NEGATIVE_INFINITY;
  return axis.ticks
    .map(([place], index): [number, string] => [place, axis.labels[index]!])
    .filter(([place]) => {
      if (place * length - last < gap) return false;
      last = place * length;
      return true;
    });
}

/** Draw a disc; a ring for a trial that did not finish; a triangle that points beyond the axis for a value there. */
export function dot(
  ink: CanvasRenderingContext2D,
  sweep: Sweep,
  row: number,
  [x, y]: Spot,
  colour: string,
  size: number,
): void {
  ink.fillStyle = ink.strokeStyle = colour;
  ink.lineWidth = 1.5;
  ink.beginPath();
  if (sweep.isBeyond(row)) {
    const up = sweep.data.trials.value[row]! > sweep.data.scale.high ? -1 : 1;
    ink.moveTo(x, y + up * 1.6 * size);
    ink.lineTo(x - 1.4 * size, y - up * size);
    ink.lineTo(x + 1.4 * size, y - up * size);
    ink.closePath();
  } else {
    ink.arc(x, y, size, 0, 7);
  }
  if (sweep.data.trials.status[row] === "finished") ink.fill();
  else ink.stroke();
}

export function ring(ink: CanvasRenderingContext2D, [x, y]: Spot, colour: string): void {
  ink.strokeStyle = colour;
  ink.lineWidth = 2;
  ink.beginPath();
  ink.arc(x, y, 8, 0, 7);
  ink.stroke();
}

/** The trial whose mark is next to a spot, at most 16 pixels away. */
export function nearest(count: number, [x, y]: Spot, at: (row: number) => Spot | null): number | null {
  let found: number | null = null;
  let least = 16 * 16;
  for (let row = 0; row < count; row++) {
    const mark = at(row);
    if (!mark) continue;
    const distance = (mark[0] - x) ** 2 + (mark[1] - y) ** 2;
    if (distance <= least) [found, least] = [row, distance];
  }
  return found;
}
