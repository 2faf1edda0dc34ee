// Parallel coordinates: an axis a parameter, the objective last, a line a trial. Dragging along an axis filters.

import type { Signal } from "@preact/signals";
import { useMemo, useRef } from "preact/hooks";
import { Drawing, type Picture, type Pointed } from "./drawing.tsx";
import { cut, FONT, type Look, line, SHADES, shade, spaced, text } from "./ink.ts";
import { plural, type Ranges, type Sweep, spot } from "./model.ts";

const MARGIN = 150; // to the right of the objective's axis is room for its name
const HEIGHT = 360;
const UPPER = 48;
const LOWER = HEIGHT - 22;
const LEFT = 20;
const LEAST_GAP = 96;
const MOST_DIM = 3000; // so many lines at most are drawn of trials that don't pass

interface ParallelProps {
  sweep: Sweep;
  passes: Uint8Array;
  count: number; // of those that pass
  ranges: Ranges;
  setRange: (index: number, range: readonly [number, number] | null) => void;
  pointed: Signal<Pointed>;
  emphasis: string;
}

export function Parallel({ sweep, passes, count, ranges, setRange, pointed, emphasis }: ParallelProps) {
  const picture = useMemo(() => parallel(sweep, passes, count, emphasis), [sweep, passes, count, emphasis]);
  const label = `Parallel coordinates of ${plural(sweep.count, "trial")} over ${plural(sweep.data.axes.length, "parameter")}`;
  return (
    <Drawing wide picture={picture} label={label} pointed={pointed} emphasis={emphasis}>
      {() =>
        sweep.axes.map((axis, index) => (
          <Handle
            key={index}
            name={axis.name}
            left={picture.x(index)}
            range={ranges.get(index) ?? null}
            passing={count}
            setRange={(range) => setRange(index, range)}
            onHold={() => {
              pointed.value = { row: null, at: null };
            }}
          />
        ))
      }
    </Drawing>
  );
}

function parallel(
  sweep: Sweep,
  passes: Uint8Array,
  passing: number,
  emphasis: string,
): Picture & { x(index: number): number } {
  const { axes, count } = sweep;
  let gap = LEAST_GAP;
  const x = (index: number) => LEFT + index * gap;
  const y = (place: number) => LOWER - place * (LOWER - UPPER);
  const trace = (ink: CanvasRenderingContext2D, row: number) => {
    let drawing = false;
    axes.forEach((axis, index) => {
      const place = spot(axis, row);
      if (place === null) drawing = false;
      else if (drawing) ink.lineTo(x(index), y(place));
      else ink.moveTo(x(index), y(place));
      drawing = place !== null;
    });
  };
  const lines = (
    ink: CanvasRenderingContext2D,
    isWanted: (row: number) => boolean,
    colour: (share: number) => string,
    strength: number,
  ) => {
    const shades: number[][] = Array.from({ length: SHADES }, () => []);
    for (let row = 0; row < count; row++)
      if (isWanted(row))
        shades[Math.min(SHADES - 1, Math.floor((sweep.goodness(row) ?? 0) * SHADES))]!.push(row);
    ink.globalAlpha = strength;
    ink.lineWidth = 1.25;
    shades.forEach((rows, index) => {
      if (!rows.length) return;
      ink.strokeStyle = colour(index / (SHADES - 1));
      ink.beginPath();
      for (const row of rows) trace(ink, row);
      ink.stroke();
    });
    ink.globalAlpha = 1;
  };
  const axis = (ink: CanvasRenderingContext2D, index: number, look: Look) => {
    const own = axes[index]!;
    const left = x(index);
    const isLast = index === axes.length - 1;
    const room = isLast ? MARGIN - 30 : gap - 22;
    line(ink, [left, UPPER], [left, LOWER], look.text);
    ink.textBaseline = "bottom";
    ink.font = isLast || own.name === emphasis ? `bold ${FONT}` : FONT;
    text(ink, own.name, [index ? left - 10 : left, UPPER - 16], room + (index ? 8 : 0), look.text);
    ink.font = "11px system-ui, sans-serif";
    ink.textBaseline = "middle";
    ink.lineJoin = "round";
    for (const [place, label] of spaced(own, LOWER - UPPER, 14)) {
      line(ink, [left, y(place)], [left + 4, y(place)], look.text);
      const words = cut(ink, label, room);
      ink.textAlign = "left";
      ink.strokeStyle = look.page; // keeps the words apart from the lines
      ink.lineWidth = 4;
      ink.globalAlpha = 0.85;
      ink.strokeText(words, left + 7, y(place));
      ink.globalAlpha = 1;
      ink.fillStyle = look.text;
      ink.fillText(words, left + 7, y(place));
    }
    ink.font = FONT;
  };
  return {
    x,
    layout(available) {
      const gaps = axes.length - 1;
      gap = Math.max(LEAST_GAP, (available - MARGIN) / gaps);
      return { width: Math.max(available, MARGIN + gaps * gap), height: HEIGHT };
    },
    draw(ink, look) {
      if (count <= MOST_DIM)
        lines(
          ink,
          (row) => !passes[row],
          () => look.rule,
          0.6,
        );
      const strength = passing > 2000 ? 0.15 : passing > 300 ? 0.35 : 0.75;
      const has = (row: number) => sweep.goodness(row) !== null;
      lines(
        ink,
        (row) => Boolean(passes[row]) && !has(row),
        () => look.quiet,
        strength / 2,
      );
      lines(
        ink,
        (row) => Boolean(passes[row]) && has(row),
        (share) => shade(look, share),
        strength,
      );
      for (const index of axes.keys()) axis(ink, index, look);
    },
    mark(ink, row, look) {
      ink.lineWidth = 3;
      ink.strokeStyle = look.text;
      ink.beginPath();
      trace(ink, row);
      ink.stroke();
    },
    pick(px, py) {
      const index = Math.max(0, Math.min(axes.length - 2, Math.floor((px - LEFT) / gap)));
      const share = (px - x(index)) / gap;
      let found: number | null = null;
      let least = 8;
      for (let row = 0; row < count; row++) {
        const [from, to] = [spot(axes[index]!, row), spot(axes[index + 1]!, row)];
        if (!passes[row] || from === null || to === null) continue;
        const distance = Math.abs(y(from + (to - from) * share) - py);
        if (distance < least) [found, least] = [row, distance];
      }
      return found;
    },
  };
}

interface HandleProps {
  name: string;
  left: number;
  range: readonly [number, number] | null;
  passing: number;
  setRange: (range: readonly [number, number] | null) => void;
  onHold: () => void;
}

const EDGE = 8; // how far the strip reaches over the ends of its axis
const LENGTH = LOWER - UPPER;

/** The strip over an axis on which a range is dragged, moved, or set by keys. */
function Handle({ name, left, range, passing, setRange, onHold }: HandleProps) {
  const held = useRef<{ place: number; old: readonly [number, number] | null; moved: boolean } | null>(null);
  const at = (event: PointerEvent & { currentTarget: HTMLElement }) => {
    const place = 1 - (event.clientY - event.currentTarget.getBoundingClientRect().top - EDGE) / LENGTH;
    return Math.max(0, Math.min(1, place));
  };
  const shift = ([low, high]: readonly [number, number], by: number) => {
    const kept = Math.max(-low, Math.min(1 - high, by));
    setRange([low + kept, high + kept]);
  };
  const how = "drag, or press the arrow keys, with shift to widen, escape to clear";
  return (
    <div
      class="handle"
      role="slider"
      tabIndex={0}
      aria-orientation="vertical"
      aria-valuemin={0}
      aria-valuemax={1}
      aria-valuenow={range ? (range[0] + range[1]) / 2 : 0.5}
      aria-valuetext={range ? `${passing} trials pass` : "all trials pass"}
      title={name}
      aria-label={`filter by ${name}: ${how}`}
      style={{ left: `${left - 12}px`, top: `${UPPER - EDGE}px`, height: `${LENGTH + 2 * EDGE}px` }}
      onPointerDown={(event) => {
        const place = at(event);
        const old = range && place >= range[0] && place <= range[1] ? range : null;
        held.current = { place, old, moved: false };
        event.currentTarget.setPointerCapture(event.pointerId);
        event.stopPropagation();
        onHold();
      }}
      onPointerMove={(event) => {
        if (!held.current) return;
        event.stopPropagation();
        const place = at(event);
        const { place: from, old } = held.current;
        held.current.moved ||= Math.abs(place - from) * LENGTH > 3;
        if (!held.current.moved) return;
        if (old) shift(old, place - from);
        else setRange([Math.min(from, place), Math.max(from, place)]);
      }}
      onPointerUp={() => {
        if (held.current && !held.current.moved) setRange(null);
        held.current = null;
      }}
      onPointerCancel={() => {
        held.current = null;
      }}
      onKeyDown={(event) => {
        if (event.key === "Escape" && range) {
          event.stopPropagation();
          setRange(null);
        }
        const up = { ArrowUp: 0.05, ArrowDown: -0.05 }[event.key];
        if (!up) return;
        event.preventDefault();
        const [low, high] = range ?? (up > 0 ? [0.5, 1] : [0, 0.5]);
        if (!range) setRange([low, high]);
        else if (event.shiftKey) setRange([low, Math.max(low + 0.02, Math.min(1, high + up))]);
        else shift([low, high], up);
      }}
    >
      {range ? (
        <div
          class="range"
          style={{
            top: `${EDGE + LENGTH * (1 - range[1])}px`,
            height: `${Math.max(3, LENGTH * (range[1] - range[0]))}px`,
          }}
        />
      ) : null}
    </div>
  );
}
