// Two runs or more side by side: what differs in parameters, metrics, code and packages; curves and pictures below.

import { useState } from "preact/hooks";
import { Charts } from "../charts.tsx";
import { all as allColumns, best, labelsOf, metrics, newest, parameters, statusOf } from "../columns.ts";
import * as format from "../format.ts";
import { Check, Dot, useAsked } from "../parts.tsx";
import * as state from "../state.ts";
import type { RunDetail, RunRow, Source } from "../types.ts";

const MOST = 8; // runs, where none is picked

export function CompareView({ source }: { source: Source }) {
  const picked = state.picked.value;
  const chosen = picked.length
    ? state.runs.value.filter((run) => picked.includes(run.id))
    : [...state.drawn.value].sort(newest).slice(0, MOST);
  const runs = [...chosen].sort((a, b) => newest(b, a));
  const ids = runs.map((run) => run.id).join();
  const [all, setAll] = useState(false);
  const { value: details } = useAsked(
    () => Promise.all(runs.map((run) => source.detail(run.id).catch(() => null))),
    [ids],
  );
  if (runs.length < 2)
    return (
      <p class="empty">
        Tick two runs or more in the table of runs, or press <kbd>c</kbd> on them.
      </p>
    );
  const base = runs.find((run) => run.id === state.baseline.value) ?? runs[0]!;
  const keys = parameters(runs, !all);
  const labels = labelsOf(runs);
  const names = metrics(runs);
  const bests = new Map(allColumns(runs).map((column) => [column.key, best(runs, column)]));
  return (
    <section class="compare">
      <div class="controls">
        <Check checked={all} label="also what is equal" onChange={() => setAll(!all)} />
        <span class="hint">metrics in percent against {base.title}</span>
        {picked.length ? (
          <button
            type="button"
            onClick={() => {
              state.picked.value = [];
            }}
          >
            Clear the choice
          </button>
        ) : null}
      </div>
      <div class="scroll">
        <table class="plain sides">
          <thead>
            <tr>
              <th />
              {runs.map((run) => (
                <th key={run.id}>
                  <Dot run={run.id} />{" "}
                  <button type="button" class="link" onClick={() => state.open(run.id)}>
                    <bdi>{run.title}</bdi>
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <Group title="metrics, their last values">
            {names.map((name) => (
              <tr key={name}>
                <th>{name}</th>
                {runs.map((run) => {
                  const value = run.metrics[name]?.last;
                  const reference = base.metrics[name]?.last;
                  const change =
                    run !== base && typeof value === "number" && typeof reference === "number"
                      ? format.percent(value, reference)
                      : "";
                  return (
                    <td key={run.id} class="numeric">
                      {value === undefined ? (
                        ""
                      ) : value !== null && value === bests.get(name) ? (
                        <b title={`the best ${name} of these runs`}>{format.number(value)}</b>
                      ) : (
                        format.number(value ?? Number.NaN)
                      )}{" "}
                      <span class="change">{change}</span>
                    </td>
                  );
                })}
              </tr>
            ))}
          </Group>
          <Group title={all ? "parameters" : "parameters that differ"}>
            {keys.map((key) => (
              <Values
                key={key}
                name={labels[key] ?? key}
                title={key}
                runs={runs}
                of={(run) => (key in run.config ? format.value(run.config[key]) : "")}
              />
            ))}
          </Group>
          <Group title="run">
            <Values name="status" runs={runs} of={statusOf} />
            <Values name="duration" runs={runs} of={(run) => format.duration(run.seconds)} />
            <Values name="started" runs={runs} of={(run) => format.moment(run.started)} />
          </Group>
          {details ? <Provenance runs={runs} details={details} all={all} /> : null}
        </table>
      </div>
      <Charts source={source} runs={runs} />
    </section>
  );
}

function Group({ title, children }: { title: string; children: preact.ComponentChildren }) {
  return (
    <tbody>
      <tr class="title">
        <th colSpan={99}>{title}</th>
      </tr>
      {children}
    </tbody>
  );
}

function Values({
  name,
  title,
  runs,
  of,
}: {
  name: string;
  title?: string;
  runs: RunRow[];
  of: (run: RunRow, index: number) => string;
}) {
  const texts = runs.map(of);
  const differ = new Set(texts).size > 1;
  return (
    <tr class={differ ? "differs" : ""}>
      <th title={title}>{name}</th>
      {texts.map((text, index) => (
        <td key={runs[index]!.id}>{text}</td>
      ))}
    </tr>
  );
}

function Provenance({ runs, details, all }: { runs: RunRow[]; details: (RunDetail | null)[]; all: boolean }) {
  const git = (detail: RunDetail | null) => (detail?.provenance.git ?? {}) as Record<string, unknown>;
  const part = (detail: RunDetail | null, key: string) =>
    (detail?.provenance[key] ?? {}) as Record<string, unknown>;
  const rows = (key: string) => {
    const names = [...new Set(details.flatMap((detail) => Object.keys(part(detail, key))))].sort();
    return names.filter(
      (name) => all || new Set(details.map((detail) => format.value(part(detail, key)[name]))).size > 1,
    );
  };
  return (
    <>
      <Group title="code">
        <Values
          name="commit"
          runs={runs}
          of={(_, index) => {
            const { commit, changed } = git(details[index]!);
            return commit ? `${String(commit).slice(0, 10)}${changed ? " + changes" : ""}` : "none";
          }}
        />
        {rows("code").map((name) => (
          <Values
            key={name}
            name={name}
            runs={runs}
            of={(_, index) => format.value(part(details[index]!, "code")[name])}
          />
        ))}
      </Group>
      <Group title={rows("packages").length ? "packages" : "packages: the same"}>
        {rows("packages").map((name) => (
          <Values
            key={name}
            name={name}
            runs={runs}
            of={(_, index) => format.value(part(details[index]!, "packages")[name])}
          />
        ))}
      </Group>
    </>
  );
}
