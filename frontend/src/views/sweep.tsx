// A sweep: history, trade-offs, parallel coordinates that filter, importances, slices, and the trials as a table.

import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import { metrics } from "../columns.ts";
import { front } from "../curves.ts";
import { useAsked } from "../parts.tsx";
import * as state from "../state.ts";
import { Drawing, type Pointed } from "../sweep/drawing.tsx";
import { history } from "../sweep/history.ts";
import {
  axisOf,
  brief,
  type Metric,
  plural,
  type Ranges,
  Sweep,
  type SweepData,
  type SweepSummary,
} from "../sweep/model.ts";
import { Parallel } from "../sweep/parallel.tsx";
import { scatter } from "../sweep/scatter.ts";
import { Hint, Trials } from "../sweep/trials.tsx";
import type { Source } from "../types.ts";

const CONSTANT = "No parameter varies: there is nothing to compare.";
const AGAIN_MS = 3000; // how often a sweep that runs is asked for

/** A number that rises while something is expected to change. */
function useClock(isRunning: boolean): number {
  const [ticks, setTicks] = useState(0);
  useEffect(() => {
    if (!isRunning) return;
    const timer = setInterval(() => document.hidden || setTicks((old) => old + 1), AGAIN_MS);
    return () => clearInterval(timer);
  }, [isRunning]);
  return ticks;
}

export function SweepView({ source }: { source: Source }) {
  const [running, setRunning] = useState(false);
  const clock = useClock(source.live && running);
  const runs = state.runs.value.length;
  const list = useAsked(() => source.sweeps(), [clock, runs]);
  const sweeps = list.value ?? [];
  const chosen = sweeps.find(({ key }) => key === state.sweepName.value) ?? sweeps[0];
  const key = chosen?.key ?? "";
  const problem = chosen?.error ?? "";
  const asked = useAsked(
    async () => (key && !problem ? { key, data: await source.sweep(key) } : null),
    [key, problem, clock, runs],
  );
  const data = asked.value?.key === key ? asked.value.data : null;
  const isRunning = sweeps.some(({ status }) => status === "running");
  useEffect(() => setRunning(isRunning), [isRunning]);
  const text = JSON.stringify(data);
  const sweep = useMemo(() => (data ? new Sweep(data) : null), [text]);
  if (list.value && !chosen)
    return (
      <p class="empty">
        No sweeps here. <code>ridgepole sweep start sweep.yaml</code> starts one.
      </p>
    );
  const failure = list.error || problem || asked.error;
  return (
    <section class="sweep">
      {sweeps.length > 1 ? (
        <div class="controls">
          <label>
            Sweep{" "}
            <select
              value={key}
              onChange={(event) => {
                state.sweepName.value = event.currentTarget.value;
              }}
            >
              {sweeps.map((each) => (
                <option key={each.key} value={each.key}>
                  {sweepName(each)}
                </option>
              ))}
            </select>
          </label>
        </div>
      ) : null}
      {failure ? (
        <p class="problem" role="alert">
          {failure}
        </p>
      ) : null}
      {sweep ? (
        <Shown key={key} {...{ id: key, source, sweep }} />
      ) : failure ? null : (
        <p class="wait">Reading the sweep…</p>
      )}
    </section>
  );
}

function sweepName({ name, id, trials }: SweepSummary): string {
  return `${name || id}${trials === undefined ? "" : ` (${trials})`}`;
}

function Shown({ id, source, sweep }: { id: string; source: Source; sweep: Sweep }) {
  const [ranges, setRanges] = useState<Ranges>(new Map());
  const [emphasis, setEmphasis] = useState("");
  const pointed = useSignal<Pointed>({ row: null, at: null });
  useAway(pointed);
  const { data, count } = sweep;
  useEffect(() => {
    document.title = `${data.title} · Ridgepole`;
  }, [data.title]);
  const wanted = state.filter.value ? new Set(state.visible.value.map((run) => run.id)) : null;
  const known = wanted ? new Set(state.runs.value.map((run) => run.id)) : null;
  const passes = useMemo(
    () =>
      sweep.passing(ranges, (row) => {
        const run = data.runs[row];
        return !wanted || !run || !known?.has(run) || wanted.has(run);
      }),
    [sweep, ranges, state.visible.value, state.filter.value],
  );
  const passing = passes.reduce((sum, each) => sum + each, 0);
  const setRange = (index: number, range: readonly [number, number] | null) => {
    const next = new Map(ranges);
    if (range) next.set(index, range);
    else next.delete(index);
    setRanges(next);
  };
  const past = useMemo(() => history(sweep, passes), [sweep, passes]);
  const slices = useMemo(() => scatter(sweep, data.axes, { passes, emphasis }), [sweep, passes, emphasis]);
  if (!count)
    return (
      <>
        <Summary data={data} count={count} />
        <h2>Trials</h2>
        <p class="facts">No trial has begun yet.</p>
      </>
    );
  const name = data.metric.name;
  return (
    <>
      <Summary data={data} count={count} />
      {data.command ? <Reproduction command={data.command} best={data.best} /> : null}
      <div class="told sticky" role="status">
        {passing === count
          ? plural(count, "trial")
          : `${passing.toLocaleString("en")} of ${plural(count, "trial")}, filtered by ${[
              ...[...ranges.keys()].map((index) => sweep.axes[index]!.name),
              ...(wanted ? ["the runs"] : []),
            ].join(", ")}`}
        {ranges.size ? (
          <button type="button" onClick={() => setRanges(new Map())}>
            Clear filters
          </button>
        ) : null}
      </div>
      <h2>History of {name}</h2>
      <HistoryKeys sweep={sweep} />
      <Drawing
        picture={past}
        label={`${name} of ${plural(count, "trial")} by number; the table below has them all`}
        pointed={pointed}
      />
      <TradeOffs sweep={sweep} passes={passes} pointed={pointed} />
      <h2>Parallel coordinates</h2>
      {data.axes.length ? (
        <>
          <p class="facts">
            <Ramp from="bad" to="good" /> Drag along an axis to filter all drawings; click it to stop.
          </p>
          <Parallel {...{ sweep, passes, ranges, setRange, pointed, emphasis }} count={passing} />
        </>
      ) : (
        <p class="facts">{CONSTANT}</p>
      )}
      <h2>Importances</h2>
      <Importances {...{ id, source, data, setEmphasis }} />
      <h2>{name} over each parameter</h2>
      {data.axes.length ? (
        <>
          <p class="facts">
            <Ramp from="first trial" to="last" />
          </p>
          <Drawing
            picture={slices}
            label={`${name} over each of ${plural(data.axes.length, "parameter")}`}
            pointed={pointed}
            emphasis={emphasis}
          />
        </>
      ) : (
        <p class="facts">{CONSTANT}</p>
      )}
      <h2>Trials</h2>
      <Trials {...{ sweep, passes, pointed }} />
      <Hint sweep={sweep} pointed={pointed} />
    </>
  );
}

/** Point at nothing when the page scrolls or a finger taps elsewhere. */
function useAway(pointed: Signal<Pointed>): void {
  useEffect(() => {
    const away = (event: Event) => {
      if (event.type === "pointerdown" && (event.target as Element).closest(".drawing")) return;
      if (pointed.peek().at) pointed.value = { row: null, at: null };
    };
    document.addEventListener("pointerdown", away);
    document.addEventListener("scroll", away, { passive: true });
    return () => {
      document.removeEventListener("pointerdown", away);
      document.removeEventListener("scroll", away);
    };
  }, []);
}

function Summary({ data, count }: { data: SweepData; count: number }) {
  const counts = Object.entries(data.counts).map(
    ([status, number]) => `${number.toLocaleString("en")} ${status}`,
  );
  const parts = [
    `sweep ${data.id}`,
    data.status,
    `${count.toLocaleString("en")} of ${plural(data.limit, "trial")}`,
  ];
  const row = data.trials.number.indexOf(data.best ?? -1);
  const goal = `${data.metric.name}, to be ${data.metric.goal}d`;
  const run = data.runs[row] ?? "";
  const isKnown = state.runs.value.some(({ id }) => id === run);
  return (
    <header>
      <h1>{data.title}</h1>
      <p class="facts">
        {parts.join(" · ")}
        {counts.length ? ` (${counts.join(", ")})` : ""}
      </p>
      {data.reason ? <p class="facts">ended early: {data.reason}</p> : null}
      {data.others.length ? (
        <p class="facts">{tradeOffs(goal, data)}</p>
      ) : row < 0 ? (
        <p class="facts">{goal}: no trial has finished with a value yet</p>
      ) : (
        <p class="facts">
          {goal}: best <strong>{data.trials.text[row]}</strong>,{" "}
          {isKnown ? (
            <button type="button" class="link" onClick={() => state.open(run)}>
              trial {data.best}
            </button>
          ) : (
            `trial ${data.best}`
          )}
        </p>
      )}
      {data.constants.length ? (
        <details>
          <summary>{plural(data.constants.length, "constant")}</summary>
          <ul>
            {data.constants.map(([name, value]) => (
              <li key={name}>
                <bdi>
                  {name} = {value}
                </bdi>
              </li>
            ))}
          </ul>
        </details>
      ) : null}
    </header>
  );
}

function tradeOffs(first: string, { others, front }: SweepData): string {
  const goals = [first, ...others.map(({ name, goal }) => `${name}, to be ${goal}d`)].join("; ");
  if (!front.length) return `${goals}: no trial has finished with all of them yet`;
  return `${goals}. No other trial beats ${plural(front.length, "trial")}: ${front.join(", ")}`;
}

function Reproduction({ command, best }: { command: string; best: number | null }) {
  const [copied, setCopied] = useState(false);
  return (
    <div class="command">
      <pre class="text">{command}</pre>
      <button
        type="button"
        title={best === null ? "" : `what trial ${best} was given`}
        onClick={async () => {
          await navigator.clipboard.writeText(command);
          setCopied(true);
          setTimeout(() => setCopied(false), 2000);
        }}
      >
        {copied ? "Copied" : "Copy"}
      </button>
    </div>
  );
}

function HistoryKeys({ sweep }: { sweep: Sweep }) {
  const { trials, metric, scale } = sweep.data;
  const has = (test: (status: string, row: number) => boolean) => trials.status.some(test);
  const beyond = trials.value.filter((_, row) => sweep.isBeyond(row)).length;
  const keys: [mark: string, words: string][] = [
    ["disc", "finished"],
    ["steps", "best so far"],
  ];
  if (has((status, row) => status !== "finished" && trials.place[row] !== null))
    keys.push(["ring", "stopped early: the best until then"]);
  if (has((status) => status === "failed")) keys.push(["cross", "failed"]);
  if (metric.target !== null)
    keys.push([
      "dashes",
      `target ${brief(metric.target)}${scale.target === null ? ", outside of this picture" : ""}`,
    ]);
  if (beyond) keys.push(["triangle", `further out: ${plural(beyond, "trial")}`]);
  return (
    <p class="facts">
      {keys.map(([mark, words]) => (
        <span class="key" key={mark}>
          <i class={mark} aria-hidden="true" />
          {words}
        </span>
      ))}
    </p>
  );
}

function Ramp({ from, to }: { from: string; to: string }) {
  return (
    <span class="key">
      {from} <i class="ramp" aria-hidden="true" /> {to}
    </span>
  );
}

interface TradeOffsProps {
  sweep: Sweep;
  passes: Uint8Array;
  pointed: Signal<Pointed>;
}

/** The objective against another metric: of the sweep, or of the trials' runs. */
function TradeOffs({ sweep, passes, pointed }: TradeOffsProps) {
  const { data } = sweep;
  const own = new Map(state.runs.value.map((run) => [run.id, run]));
  const runs = data.runs.map((key) => own.get(key ?? ""));
  const known = runs.flatMap((run) => run ?? []);
  const names = [
    ...data.others.map(({ name }) => name),
    ...metrics(known).filter(
      (name) => name !== data.metric.name && !data.others.some((other) => other.name === name),
    ),
  ];
  const second = names.includes(state.against.value)
    ? state.against.value
    : data.others.length && state.against.value !== "none"
      ? data.others[0]!.name
      : "";
  const metric = useMemo((): Metric | null => {
    if (!second) return null;
    const given = data.others.find(({ name }) => name === second);
    if (given) return given;
    const summaries = runs.map((run) => run?.metrics[second]);
    return {
      name: second,
      goal: summaries.some((each) => each?.goal === "min") ? "minimize" : "maximize",
      values: summaries.map((each) => each?.best ?? each?.last ?? null),
    };
  }, [sweep, second, state.runs.value]);
  const picture = useMemo(() => {
    if (!metric) return null;
    const across = axisOf(metric.name, metric.values);
    const points = [...passes.keys()].flatMap((row) => {
      const x = across.places[row] ?? null;
      const y = sweep.objective.places[row] ?? null;
      const isCounted = passes[row] && data.trials.status[row] === "finished" && x !== null && y !== null;
      return isCounted ? [{ x, y, row }] : [];
    });
    const best = front(points, metric.goal === "maximize", sweep.maximises);
    return scatter(sweep, [across], { passes, colour: "point", front: best.map(({ row }) => row) });
  }, [sweep, metric, passes]);
  if (!names.length) return null;
  return (
    <>
      <h2>
        {data.metric.name} against{" "}
        <select
          aria-label="against"
          value={second || "none"}
          onChange={(event) => {
            state.against.value = event.currentTarget.value;
          }}
        >
          <option value="none">another metric</option>
          {names.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </h2>
      {picture && metric ? (
        <>
          <p class="facts">
            <span class="key">
              <i class="steps" aria-hidden="true" />
              joins the trials that no other one beats in both ({metric.name} to be {metric.goal}d)
            </span>
          </p>
          <Drawing
            picture={picture}
            label={`${data.metric.name} against ${metric.name} of ${plural(sweep.count, "trial")}`}
            pointed={pointed}
          />
        </>
      ) : null}
    </>
  );
}

interface ImportancesProps {
  id: string;
  source: Source;
  data: SweepData;
  setEmphasis: (name: string) => void;
}

function Importances({ id, source, data, setEmphasis }: ImportancesProps) {
  // they take longer than all the rest: the rest does not wait for them
  const asked = useAsked(
    async () => data.importances ?? (await source.importances(id)),
    [id, JSON.stringify(data.trials.value)],
  );
  if (!asked.value) return <p class="facts">{asked.error || "Computing the importances…"}</p>;
  const { shares, note } = asked.value;
  const largest = shares[0]?.[1] || 1;
  return (
    <>
      <p class="facts">{note}</p>
      {shares.length ? (
        <ol class="bars">
          {shares.map(([name, share]) => (
            <li
              key={name}
              title={name}
              onPointerEnter={() => setEmphasis(name)}
              onPointerLeave={() => setEmphasis("")}
            >
              <span class="name">{name}</span>
              <span class="track">
                <span style={{ width: `${(share / largest) * 100}%` }} />
              </span>
              <span class="share">{(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %</span>
            </li>
          ))}
        </ol>
      ) : null}
    </>
  );
}
