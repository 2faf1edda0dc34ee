// Colours that people with colour blindness tell apart (Okabe and Ito 2008, and darker and lighter kin), chosen by a
// run's id, so that a run keeps its colour wherever it is shown and whatever is shown beside it.

const LIGHT = [
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#a07800",
  "#3a9bd4",
  "#7b3fa0",
  "#7a5230",
  "#c0392b",
  "#4d6b00",
  "#00838f",
  "#5b6770",
];
const DARK = [
  "#56b4e9",
  "#ff8c42",
  "#2fd6a3",
  "#f2a3cc",
  "#f0c419",
  "#8cc8ff",
  "#c39bff",
  "#d2a679",
  "#ff7b72",
  "#b5d33d",
  "#4dd0e1",
  "#b0bec5",
];

export function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Give each run a colour: its own by its id, the next free one where two neighbours would share it. */
export function colours(ids: string[], dark: boolean): Map<string, string> {
  const palette = dark ? DARK : LIGHT;
  const taken = new Map<number, number>();
  const result = new Map<string, string>();
  for (const id of [...ids].sort()) {
    let slot = hash(id) % palette.length;
    const least = Math.min(...palette.map((_, index) => taken.get(index) ?? 0));
    while ((taken.get(slot) ?? 0) > least) slot = (slot + 1) % palette.length;
    taken.set(slot, (taken.get(slot) ?? 0) + 1);
    result.set(id, palette[slot]!);
  }
  return result;
}

export function fade(colour: string, alpha: number): string {
  return (
    colour +
    Math.round(alpha * 255)
      .toString(16)
      .padStart(2, "0")
  );
}

function hash(text: string): number {
  let value = 2166136261; // FNV-1a
  for (let index = 0; index < text.length; index++)
    value = Math.imul(value ^ text.charCodeAt(index), 16777619);
  return value >>> 0;
}
