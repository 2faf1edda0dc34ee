// The binary answer for a chart: "RPC1", the length of the header, the header, the arrays.

import type { Curve } from "./types.ts";

interface Place {
  at: number;
  length: number;
  type: "f64" | "f32" | "u32" | "u8";
}

interface Series {
  run: string;
  state: "exact" | "preview" | "missing";
  raw?: boolean;
  x?: Place;
  y?: Place;
  low?: Place;
  high?: Place;
  smooth?: Place;
  time?: Place;
  special?: { x: Place; kind: Place };
}

export interface TimedCurve extends Curve {
  time: Float64Array | null;
}

export function decode(buffer: ArrayBuffer): TimedCurve[] {
  const view = new DataView(buffer);
  if (buffer.byteLength < 8 || view.getUint32(0, false) !== 0x52504331)
    throw new Error("The answer is not a chart.");
  const start = 8 + view.getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8))) as {
    series: Series[];
  };
  const read = ({ at, length, type }: Place): Float64Array => {
    if (type === "f64") return new Float64Array(buffer, start + at, length);
    if (type === "f32") return Float64Array.from(new Float32Array(buffer, start + at, length));
    if (type === "u32") return Float64Array.from(new Uint32Array(buffer, start + at, length));
    return Float64Array.from(new Uint8Array(buffer, start + at, length));
  };
  return header.series.flatMap((series) => {
    if (series.state === "missing" || !series.x || !series.y) return [];
    const mean = read(series.y);
    return {
      run: series.run,
      x: read(series.x),
      mean,
      min: series.low ? read(series.low) : mean,
      max: series.high ? read(series.high) : mean,
      smooth: series.smooth ? read(series.smooth) : null,
      time: series.time ? read(series.time) : null,
      nonfinite: series.special ? [...read(series.special.x)] : [],
      exact: series.state === "exact",
    };
  });
}
