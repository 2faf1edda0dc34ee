// Numbers, times and texts as people read them.

/** Write a number with five significant digits, without a tail of zeros. */
export function number(value: number | null | undefined): string {
  if (value === null || value === undefined) return "";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toString().replace("-", "−");
  const size = Math.abs(value);
  const text =
    size >= 1e6 || size < 1e-4
      ? value.toExponential(3)
      : size >= 1e5
        ? value.toFixed(0)
        : value.toPrecision(5);
  const [digits = "", exponent] = text.split("e");
  const short = digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits;
  return (exponent ? `${short}e${exponent.replace("+", "")}` : short).replaceAll("-", "−");
}

/** Write a number beside an axis: a large one with an exponent where that is shorter and the same. */
export function tick(value: number): string {
  const plain = number(value);
  if (!Number.isFinite(value) || Math.abs(value) < 1e6) return plain;
  const short = value.toExponential().replace("+", "");
  return short.length < plain.length ? short.replaceAll("-", "−") : plain;
}

/** Write seconds as "8.1 s", "3 min 20 s", "2 h 05 min" or "3 d 4 h". */
export function duration(seconds: number | null): string {
  if (seconds === null || !Number.isFinite(seconds)) return "";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${pad(Math.floor(seconds % 60))} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${pad(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Write how long ago a time was, in words. */
export function ago(time: number, now: number): string {
  const seconds = Math.max(0, now - time);
  if (seconds < 60) return "just now";
  const steps: [number, string][] = [
    [60, "minute"],
    [3600, "hour"],
    [86400, "day"],
    [86400 * 30, "month"],
    [86400 * 365, "year"],
  ];
  const [size, unit] = steps.findLast(([size]) => seconds >= size)!;
  const count = Math.floor(seconds / size);
  return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
}

export function moment(time: number): string {
  return new Date(time * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

export function bytes(count: number): string {
  if (count < 1000) return `${count} B`;
  if (count < 1e6) return `${(count / 1e3).toFixed(1)} kB`;
  if (count < 1e9) return `${(count / 1e6).toFixed(1)} MB`;
  return `${(count / 1e9).toFixed(1)} GB`;
}

/** Write any value of a configuration. */
export function value(of: unknown): string {
  if (typeof of === "number") return number(of);
  if (typeof of === "string") return of;
  if (of === null || of === undefined) return of === null ? "null" : "";
  return JSON.stringify(of);
}

/** Write how far `value` is from `base`, in percent, with its sign. */
export function percent(value: number, base: number): string {
  if (base === 0) return value === 0 ? "0 %" : "";
  const change = ((value - base) / Math.abs(base)) * 100;
  const digits = Math.abs(change) < 9.95 ? 1 : 0;
  return `${change >= 0 ? "+" : "−"}${Math.abs(change).toFixed(digits)} %`;
}

function pad(of: number): string {
  return of.toString().padStart(2, "0");
}
