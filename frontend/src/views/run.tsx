// One run: what it did, when, with which configuration and code, and its log as it grows.

import { useEffect, useRef, useState } from "preact/hooks";
import { Charts } from "../charts.tsx";
import * as format from "../format.ts";
import { Dot, Status, useAsked } from "../parts.tsx";
import * as state from "../state.ts";
import type { ProcessRow, RunRow, Source } from "../types.ts";
import { Item } from "./media.tsx";
import { AlertCount, Alerts, StepTimes, System } from "./watch.tsx";

const TABS = [
  "curves",
  "system",
  "alerts",
  "media",
  "config",
  "log",
  "attempts",
  "provenance",
  "diff",
] as const;

export function RunView({ source }: { source: Source }) {
  const id = state.shownRun.value;
  const row = state.runs.value.find((run) => run.id === id);
  const tab = TABS.find((name) => name === state.runTab.value) ?? "curves";
  useEffect(
    () => () => {
      state.runTab.value = "curves";
    },
    [],
  );
  const { value: detail, error } = useAsked(
    () => source.detail(id),
    [id, state.runs.value, state.version.value],
  );
  if (!row)
    return (
      <p class="empty">
        {state.loaded.value ? `There is no run ${id} here; it may have been removed.` : "…"}
      </p>
    );
  return (
    <section class="run">
      <header class="head">
        <h1>
          <Dot run={row.id} /> <Status run={row} /> <bdi>{row.name}</bdi>
        </h1>
        <p class="facts">
          {row.name === row.runId ? "" : `${row.runId} · `}
          {row.pipeline} · {row.status.replaceAll("_", " ")} · {format.moment(row.started)} ·{" "}
          {format.duration(row.seconds)}
          {row.attempt > 1 ? ` · attempt ${row.attempt}` : ""}
        </p>
        {row.error ? <Failure line={row.error} traceback={detail?.traceback ?? ""} /> : null}
        <Labels source={source} run={row} />
      </header>
      {error ? <p class="problem">{error}</p> : null}
      {detail ? <TimeLine processes={detail.processes} /> : null}
      {detail ? <StepTimes verdict={detail.verdict} times={detail.stepTimes} /> : null}
      <div class="tabs" role="tablist">
        {TABS.map((name) => (
          <button
            key={name}
            type="button"
            role="tab"
            aria-selected={tab === name}
            onClick={() => {
              state.runTab.value = name;
            }}
          >
            {name}
            {name === "alerts" && detail ? <AlertCount alerts={detail.alerts} /> : null}
          </button>
        ))}
      </div>
      {tab === "curves" ? <Charts source={source} runs={[row]} /> : null}
      {tab === "system" ? <System source={source} run={row} /> : null}
      {detail && tab === "alerts" ? <Alerts alerts={detail.alerts} /> : null}
      {tab === "media" ? <Media source={source} run={row} /> : null}
      {detail && tab === "config" ? <Config run={row} /> : null}
      {detail && tab === "log" ? <Logs source={source} run={row} files={detail.logs} /> : null}
      {detail && tab === "attempts" ? (
        <>
          <Objects title="attempts" rows={detail.attempts} />
          <Objects title="checkpoints" rows={detail.checkpoints} />
        </>
      ) : null}
      {detail && tab === "provenance" ? <Tree value={detail.provenance} /> : null}
      {detail && tab === "diff" ? <Diff source={source} run={row} there={detail.hasDiff} /> : null}
    </section>
  );
}

function Labels({ source, run }: { source: Source; run: RunRow }) {
  const [problem, setProblem] = useState("");
  const send = (change: Parameters<Source["label"]>[1]) =>
    source.label(run.id, change).then(
      () => {
        setProblem("");
        return state.load(source);
      },
      (error: unknown) => setProblem(error instanceof Error ? error.message : String(error)),
    );
  if (!source.live || run.isCopy)
    return run.note || run.tags.length ? (
      <p>
        {run.tags.map((tag) => (
          <span class="tag" key={tag}>
            {tag}
          </span>
        ))}{" "}
        {run.note}
      </p>
    ) : null;
  return (
    <form class="labels" onSubmit={(event) => event.preventDefault()}>
      <label>
        name{" "}
        <input
          key={`n${run.name}`}
          defaultValue={run.isNamed ? run.name : ""}
          placeholder="none"
          maxLength={200}
          onChange={(event) => send({ name: event.currentTarget.value })}
        />
      </label>
      <label>
        tags{" "}
        <input
          key={`t${run.tags}`}
          defaultValue={run.tags.join(", ")}
          placeholder="a, b"
          onChange={(event) =>
            send({
              tags: event.currentTarget.value
                .split(",")
                .map((tag) => tag.trim())
                .filter(Boolean),
            })
          }
        />
      </label>
      <label class="wide">
        note{" "}
        <textarea
          key={`m${run.note}`}
          rows={1}
          defaultValue={run.note}
          onChange={(event) => send({ note: event.currentTarget.value })}
        />
      </label>
      <button type="button" onClick={() => send({ archived: !run.archived })}>
        {run.archived ? "Bring back" : "Archive"}
      </button>
      {problem ? (
        <span class="problem" role="alert">
          {problem}
        </span>
      ) : null}
    </form>
  );
}

function TimeLine({ processes }: { processes: ProcessRow[] }) {
  if (!processes.length) return null;
  const total = processes.reduce((sum, process) => sum + process.seconds, 0) || 1;
  return (
    <ol class="timeline" aria-label="processes">
      {processes.map((process) => (
        <li
          key={process.name}
          class={process.status}
          style={{ flexGrow: Math.max(process.seconds / total, 0.02) }}
          title={[`${process.name}: ${process.status}, ${format.duration(process.seconds)}`, process.reason]
            .filter(Boolean)
            .join("\n")}
        >
          <span>{process.name}</span> <small>{format.duration(process.seconds)}</small>
        </li>
      ))}
    </ol>
  );
}

function Media({ source, run }: { source: Source; run: RunRow }) {
  const { value: media, error } = useAsked(() => source.media([run.id]), [run.id, state.version.value]);
  if (error) return <p class="problem">{error}</p>;
  if (!media) return <p class="wait">…</p>;
  if (!media.length)
    return <p class="empty">This run logged no pictures, figures, histograms, tables or texts.</p>;
  return (
    <div class="gallery">
      {media.map((medium, index) => (
        <div key={index}>
          <h3>
            <bdi>{medium.name}</bdi>
          </h3>
          <Item source={source} medium={medium} run={run} />
        </div>
      ))}
    </div>
  );
}

function Failure({ line, traceback }: { line: string; traceback: string }) {
  if (!traceback) return <p class="problem">{line}</p>;
  return (
    <details class="problem">
      <summary>{line}</summary>
      <pre class="text">{traceback}</pre>
    </details>
  );
}

function Config({ run }: { run: RunRow }) {
  return (
    <table class="plain">
      <tbody>
        {Object.entries(run.config).map(([key, value]) => (
          <tr key={key}>
            <th>{key}</th>
            <td>{format.value(value)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Logs({ source, run, files }: { source: Source; run: RunRow; files: string[] }) {
  const [chosen, choose] = useState(files[0] ?? "");
  const { value, error } = useAsked(
    () => (chosen ? source.log(run.id, chosen) : Promise.resolve("")),
    [run.id, chosen, state.version.value],
  );
  if (!files.length) return <p class="empty">This run kept no log.</p>;
  return (
    <>
      {files.length > 1 ? (
        <div class="controls">
          {files.map((file) => (
            <button
              key={file}
              type="button"
              aria-pressed={file === chosen}
              class={file === chosen ? "primary" : ""}
              onClick={() => choose(file)}
            >
              {file}
            </button>
          ))}
        </div>
      ) : null}
      {error ? <p class="problem">{error}</p> : <Log text={value ?? ""} />}
    </>
  );
}

/** The end of the log. It follows as long as the reader has not scrolled up. */
function Log({ text }: { text: string }) {
  const box = useRef<HTMLPreElement>(null);
  const following = useRef(true);
  useEffect(() => {
    if (following.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text]);
  return (
    <pre
      class="text log"
      ref={box}
      onScroll={(event) => {
        const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
        following.current = scrollTop + clientHeight > scrollHeight - 20;
      }}
    >
      {text || "The log is empty."}
    </pre>
  );
}

function Objects({ title, rows }: { title: string; rows: Record<string, unknown>[] }) {
  const keys = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((key) =>
    rows.some((row) => row[key] !== null && row[key] !== ""),
  );
  if (!rows.length) return <p class="hint">no {title}</p>;
  return (
    <div class="scroll">
      <h3>{title}</h3>
      <table class="plain">
        <thead>
          <tr>
            {keys.map((key) => (
              <th key={key}>{key.replaceAll("_", " ")}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={index}>
              {keys.map((key) => (
                <td key={key}>
                  {key === "time" && typeof row[key] === "number"
                    ? format.moment(row[key])
                    : format.value(row[key])}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Tree({ value, name = "" }: { value: unknown; name?: string }) {
  if (typeof value !== "object" || value === null) {
    return (
      <div class="leaf">
        {name ? <b>{name}</b> : null} {format.value(value)}
      </div>
    );
  }
  const entries = Object.entries(value);
  const body = entries.map(([key, inner]) => <Tree key={key} name={key} value={inner} />);
  if (!name) return <div class="tree">{body}</div>;
  return (
    <details open={entries.length < 12}>
      <summary>
        <b>{name}</b> <small>{entries.length}</small>
      </summary>
      {body}
    </details>
  );
}

function Diff({ source, run, there }: { source: Source; run: RunRow; there: boolean }) {
  const { value, error } = useAsked(
    () => (there ? source.diff(run.id) : Promise.resolve("")),
    [run.id, there],
  );
  if (error) return <p class="problem">{error}</p>;
  if (value === null) return <p class="wait">…</p>;
  if (!value) return <p class="empty">The code was as its commit has it.</p>;
  const kind = (line: string) => {
    if (line.startsWith("+") && !line.startsWith("+++")) return "added";
    if (line.startsWith("-") && !line.startsWith("---")) return "removed";
    return line.startsWith("@@") ? "place" : "";
  };
  return (
    <pre class="text diff">
      {value
        .split("\n")
        .slice(0, 5000)
        .map((line, index) => (
          <span key={index} class={kind(line)}>
            {line}
            {"\n"}
          </span>
        ))}
    </pre>
  );
}
