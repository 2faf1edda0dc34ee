// What is shown. All of it that a link should bring back is kept in the URL's fragment.

import { batch, computed, effect, type Signal, signal } from "@preact/signals";
import { newest } from "./columns.ts";
import { compile, FilterError } from "./filter.ts";
import { colours, isDark } from "./palette.ts";
import type { Axis, RunRow, Source } from "./types.ts";

export type View = "runs" | "media" | "compare" | "sweep" | "run";

export const view = signal<View>("runs");
export const shownRun = signal("");
export const runTab = signal("curves");
export const filter = signal("");
export const sort = signal("-started");
export const hidden = signal<string[]>([]); // runs whose curves are not drawn
export const picked = signal<string[]>([]); // runs to compare
export const baseline = signal("");
export const chosenColumns = signal<string[]>([]);
export const onlyDiffering = signal(true);
export const showArchived = signal(false);
export const groupBy = signal<string[]>([]);
export const smoothing = signal(0);
export const axis = signal<Axis>("step");
export const logX = signal(false);
export const logY = signal(false);
export const wholeY = signal(false); // whether charts show also values far from all others
export const metricSearch = signal("");
export const largeChart = signal("");
export const sweepName = signal("");
export const against = signal(""); // a metric beside the one of the sweep; "none" for no other
export const theme = signal(""); // "", "light" or "dark"

export const runs = signal<RunRow[]>([]);
export const loaded = signal(false);
export const connected = signal(true);
export const failure = signal("");
export const version = signal(0); // counts changes of metrics, so that charts ask again
export const changedRuns = signal<Set<string>>(new Set());
export const now = signal(Date.now() / 1000);

export const dark = signal(false);
export const colourOf = computed(() =>
  colours(
    runs.value.map((run) => run.id),
    dark.value,
  ),
);

const compiled = computed(() => {
  try {
    return { test: compile(filter.value), error: "" };
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    return { test: () => true, error: `${error.message} (at character ${error.at + 1})` };
  }
});
export const filterError = computed(() => compiled.value.error);
export const visible = computed(() =>
  runs.value.filter((run) => (showArchived.value || !run.archived) && compiled.value.test(run)),
);
export const drawn = computed(() => {
  const off = new Set(hidden.value);
  return visible.value.filter((run) => !off.has(run.id));
});

/** The most runs that charts draw at once; the newest are taken. The table shows all. */
export const MOST_DRAWN = 100;
export const charted = computed(() => [...drawn.value].sort(newest).slice(0, MOST_DRAWN));

type Kept = [string, Signal<string> | Signal<string[]> | Signal<boolean> | Signal<number>];
const KEPT: Kept[] = [
  ["view", view as Signal<string>],
  ["run", shownRun],
  ["tab", runTab],
  ["filter", filter],
  ["sort", sort],
  ["hide", hidden],
  ["pick", picked],
  ["baseline", baseline],
  ["columns", chosenColumns],
  ["differ", onlyDiffering],
  ["archived", showArchived],
  ["group", groupBy],
  ["smooth", smoothing],
  ["x", axis as Signal<string>],
  ["logx", logX],
  ["logy", logY],
  ["wholey", wholeY],
  ["metrics", metricSearch],
  ["chart", largeChart],
  ["sweep", sweepName],
  ["against", against],
  ["theme", theme],
];
const INITIAL = new Map(KEPT.map(([name, state]) => [name, write(state.peek())]));

function write(value: unknown): string {
  return Array.isArray(value) ? value.map(encodeURIComponent).join(",") : String(value);
}

function readUrl(): void {
  const given = new URLSearchParams(location.hash.slice(1));
  batch(() => {
    for (const [name, state] of KEPT) {
      const text = given.get(name) ?? INITIAL.get(name)!;
      const old = state.peek();
      if (write(old) === text) continue;
      if (Array.isArray(old))
        (state as Signal<string[]>).value = text ? text.split(",").map(decodeURIComponent) : [];
      else if (typeof old === "boolean") (state as Signal<boolean>).value = text === "true";
      else if (typeof old === "number") (state as Signal<number>).value = Number(text) || 0;
      else (state as Signal<string>).value = text;
    }
  });
}

function url(): string {
  const kept = new URLSearchParams();
  for (const [name, state] of KEPT) {
    const text = write(state.value);
    if (text !== INITIAL.get(name)) kept.set(name, text);
  }
  const text = kept.toString();
  return text ? `#${text}` : "#";
}

/** Keep the URL and the state the same, and follow the source. */
export function start(source: Source): void {
  if (source.opens) {
    view.value = source.opens as View;
    INITIAL.set("view", source.opens);
  }
  readUrl();
  window.addEventListener("hashchange", readUrl);
  let place = `${view.peek()} ${shownRun.peek()} ${largeChart.peek()}`;
  effect(() => {
    const text = url();
    if (text === (location.hash || "#")) return;
    const here = `${view.value} ${shownRun.value} ${largeChart.value}`;
    // going to another view is a step that "back" undoes; typing a filter is not
    if (here === place) history.replaceState(null, "", text);
    else history.pushState(null, "", text);
    place = here;
  });
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const look = () => {
    if (theme.value) document.documentElement.dataset.theme = theme.value;
    else delete document.documentElement.dataset.theme;
    dark.value = isDark();
  };
  scheme.addEventListener("change", look);
  effect(look);
  setInterval(() => {
    if (!document.hidden) now.value = Date.now() / 1000;
  }, 15_000);
  void load(source);
  source.follow(
    (changes) => {
      const metrics = changes.flatMap((change) => (change.kind === "metrics" ? change.runs : []));
      if (metrics.length) {
        changedRuns.value = new Set(metrics);
        version.value++;
      }
      if (changes.some((change) => change.kind === "runs")) void load(source);
      else if (metrics.length) soon(source);
    },
    (state) => {
      connected.value = state;
    },
  );
}

let waiting = false;

/** Bring the table's values up to date, at most once in a while: a long list is costly. */
function soon(source: Source): void {
  if (waiting) return;
  waiting = true;
  setTimeout(
    () => {
      waiting = false;
      void load(source);
    },
    runs.value.length < 200 ? 300 : 5000,
  );
}

export async function load(source: Source): Promise<void> {
  try {
    const list = await source.runs();
    batch(() => {
      runs.value = list;
      loaded.value = true;
      failure.value = "";
      now.value = Date.now() / 1000;
    });
  } catch (error) {
    failure.value = error instanceof Error ? error.message : String(error);
  }
}

export function toggle(list: Signal<string[]>, item: string): void {
  list.value = list.value.includes(item)
    ? list.value.filter((other) => other !== item)
    : [...list.value, item];
}

export function open(run: string): void {
  batch(() => {
    shownRun.value = run;
    view.value = "run";
  });
}
