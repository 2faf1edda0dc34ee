// A drawing of trials: two canvases on each other. The upper one has only the trial that is pointed at, so that
// pointing draws nothing else again.

import type { Signal } from "@preact/signals";
import { useSignalEffect } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useWidth } from "../parts.tsx";
import * as state from "../state.ts";
import { FONT, type Look, look } from "./ink.ts";

/** What is pointed at, in all drawings and the table. */
export interface Pointed {
  row: number | null;
  at: [x: number, y: number] | null; // in the window; null where only the table points
}

export interface Picture {
  layout(width: number): { width: number; height: number };
  draw(ink: CanvasRenderingContext2D, look: Look): void;
  mark(ink: CanvasRenderingContext2D, row: number, look: Look): void;
  pick(x: number, y: number): number | null;
}

const MOST_PIXELS = 16384; // of a canvas in one direction

interface DrawingProps {
  picture: Picture;
  label: string;
  pointed: Signal<Pointed>;
  emphasis?: string; // a parameter
  wide?: boolean; // scrolls aside where it does not fit
  children?: () => ComponentChildren; // lie on it; called after the layout
}

export function Drawing({ picture, label, pointed, emphasis, wide, children }: DrawingProps) {
  const [frame, available] = useWidth<HTMLDivElement>();
  const base = useRef<HTMLCanvasElement>(null);
  const top = useRef<HTMLCanvasElement>(null);
  const colours = look(state.dark.value);
  const size = available ? picture.layout(available) : { width: 0, height: 0 };
  const overlay = () => {
    const ink = top.current?.getContext("2d");
    if (!ink || !available) return;
    ink.clearRect(0, 0, size.width, size.height);
    const { row } = pointed.value;
    if (row !== null) picture.mark(ink, row, colours);
  };
  useEffect(() => {
    if (!available) return;
    const sharp = Math.min(devicePixelRatio || 1, MOST_PIXELS / size.width, MOST_PIXELS / size.height);
    for (const canvas of [base.current!, top.current!]) {
      canvas.width = Math.round(size.width * sharp);
      canvas.height = Math.round(size.height * sharp);
      const ink = canvas.getContext("2d")!;
      ink.scale(sharp, sharp);
      ink.font = FONT;
    }
    picture.draw(base.current!.getContext("2d")!, colours);
    overlay();
    base.current!.parentElement!.dataset.drawn = "true";
  }, [picture, available, colours, emphasis]);
  const draw = useRef(overlay);
  draw.current = overlay;
  useSignalEffect(() => {
    void pointed.value;
    draw.current();
  });
  const find = (event: PointerEvent & { currentTarget: HTMLElement }) => {
    if (!available) return;
    const bounds = event.currentTarget.getBoundingClientRect();
    const row = picture.pick(event.clientX - bounds.left, event.clientY - bounds.top);
    pointed.value = { row, at: row === null ? null : [event.clientX, event.clientY] };
  };
  return (
    <div class="scroll" ref={frame} {...(wide ? { tabIndex: 0, role: "region", "aria-label": label } : {})}>
      <div
        class="drawing"
        style={{ width: `${size.width}px`, height: `${size.height}px` }}
        onPointerMove={find}
        onPointerDown={find}
        onPointerLeave={(event) => {
          // a finger leaves with every tap
          if (event.pointerType !== "touch") pointed.value = { row: null, at: null };
        }}
      >
        <canvas ref={base} role="img" aria-label={label} />
        <div aria-hidden="true">
          <canvas ref={top} />
        </div>
        {available ? children?.() : null}
      </div>
    </div>
  );
}
