// The page: a bar of views above, and the chosen view below.

import { render } from "preact";
import { useEffect, useErrorBoundary } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { source as sourceOf } from "./answers.ts";
import { ChartMenu, Charts } from "./charts.tsx";
import { isTyping, Search } from "./parts.tsx";
import { report } from "./report.ts";
import { server } from "./server.ts";
import * as state from "./state.ts";
import { RunTable, TableMenu } from "./table.tsx";
import type { Source } from "./types.ts";
import { CompareView } from "./views/compare.tsx";
import { MediaView } from "./views/media.tsx";
import { RunView } from "./views/run.tsx";
import { SweepView } from "./views/sweep.tsx";

const VIEWS: [state.View, string][] = [
  ["runs", "Runs"],
  ["media", "Media"],
  ["compare", "Compare"],
  ["sweep", "Sweeps"],
];

const MOST_NOTES = 3;

function Page({ source }: { source: Source }) {
  const view = state.view.value;
  useEffect(() => {
    if (view === "sweep" && source.count) return; // it says its own
    document.title =
      view === "run"
        ? `${state.runs.value.find((run) => run.id === state.shownRun.value)?.title ?? "run"} · Ridgepole`
        : `${source.title} · Ridgepole`;
  }, [view, state.shownRun.value, state.runs.value]);
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
      const index = ["1", "2", "3", "4"].indexOf(event.key);
      if (index >= 0) state.view.value = VIEWS[index]![0];
      else if (event.key === "/") document.querySelector<HTMLInputElement>("input[type=search]")?.focus();
      else if (event.key === "Escape" && view === "run") state.view.value = "runs";
      else return;
      event.preventDefault();
    };
    document.addEventListener("keydown", key);
    return () => document.removeEventListener("keydown", key);
  }, [view]);
  const count = state.runs.value.length;
  const shown = state.visible.value.length;
  const hasRuns = source.live || count > 0 || !source.count; // a report of a sweep of a function has none
  return (
    <>
      <header class="bar">
        <span class="brand">
          <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true">
            <path
              d="M2 13 12 4l10 9M6 20l6-6 6 6"
              fill="none"
              stroke="currentColor"
              stroke-width="2.4"
              stroke-linecap="round"
              stroke-linejoin="round"
            />
          </svg>
          <b>{source.title}</b>
        </span>
        <nav aria-label="views">
          {VIEWS.filter(([name]) => (name === "sweep" ? source.count : hasRuns)).map(([name, label]) => (
            <button
              key={name}
              type="button"
              aria-current={view === name ? "page" : undefined}
              onClick={() => {
                state.view.value = name;
              }}
            >
              {label}
              {name === "compare" && state.picked.value.length ? ` (${state.picked.value.length})` : ""}
            </button>
          ))}
        </nav>
        {hasRuns ? (
          <>
            <Search
              value={state.filter.value}
              label="filter runs"
              hint="filter: lr > 1e-3 and status == &quot;finished&quot;"
              error={state.filterError.value}
              onInput={(text) => {
                state.filter.value = text;
              }}
            />
            <span class="count" aria-live="polite">
              {shown === count ? `${count} run${count === 1 ? "" : "s"}` : `${shown} of ${count} runs`}
            </span>
          </>
        ) : null}
        {source.live ? (
          <span
            class={`live ${state.connected.value ? "" : "lost"}`}
            title={state.connected.value ? "the page follows the runs" : "no connection; trying again"}
          >
            {state.connected.value ? "live" : "not connected"}
          </span>
        ) : null}
        <button
          type="button"
          class="quiet"
          aria-label="dark or light"
          onClick={() => {
            state.theme.value = state.dark.value ? "light" : "dark";
          }}
        >
          {state.dark.value ? "☀" : "☾"}
        </button>
      </header>
      <main>
        {state.failure.value ? (
          <p class="problem" role="alert">
            {state.failure.value}{" "}
            <button type="button" onClick={() => void state.load(source)}>
              Try again
            </button>
          </p>
        ) : null}
        {state.loaded.value
          ? source.notes.slice(0, MOST_NOTES).map((note) => (
              <p class="hint" role="status" key={note}>
                {note}
              </p>
            ))
          : null}
        <Guard key={view}>
          {state.loaded.value ? (
            <Body source={source} />
          ) : state.failure.value ? null : (
            <p class="wait">Reading the runs…</p>
          )}
        </Guard>
      </main>
    </>
  );
}

function Body({ source }: { source: Source }) {
  switch (state.view.value) {
    case "run":
      return <RunView source={source} />;
    case "media":
      return <MediaView source={source} runs={state.charted.value} />;
    case "compare":
      return <CompareView source={source} />;
    case "sweep":
      return <SweepView source={source} />;
    default:
      return (
        <>
          <TableMenu />
          <RunTable source={source} />
          <div class="controls between">
            <Search
              value={state.metricSearch.value}
              label="metrics by name"
              hint="metrics: a name or a pattern"
              onInput={(text) => {
                state.metricSearch.value = text;
              }}
            />
            <ChartMenu runs={state.charted.value} />
            {state.drawn.value.length > state.MOST_DRAWN ? (
              <span class="hint">
                the newest {state.MOST_DRAWN} of {state.drawn.value.length} runs are drawn
              </span>
            ) : null}
          </div>
          <Charts source={source} runs={state.charted.value} />
        </>
      );
  }
}

/** Say what went wrong in a view instead of leaving the page blank. */
function Guard({ children }: { children: preact.ComponentChildren }) {
  const [error, again] = useErrorBoundary((problem: unknown) => console.error(problem));
  if (!error) return <>{children}</>;
  return (
    <p class="problem" role="alert">
      This view failed: {error instanceof Error ? error.message : String(error)}{" "}
      <button type="button" onClick={again}>
        Try again
      </button>
    </p>
  );
}

const data = document.getElementById("ridgepole-report");
const source = sourceOf(data ? report(JSON.parse(data.textContent ?? "null")) : server());
state.start(source);
render(<Page source={source} />, document.getElementById("app")!);
