// Pictures, figures, histograms, tables and texts of the drawn runs, under one slider of steps.

import { useMemo, useState } from "preact/hooks";
import * as format from "../format.ts";
import { Dot, Search, useAsked, useSeen } from "../parts.tsx";
import * as state from "../state.ts";
import type { Medium, RunRow, Source } from "../types.ts";

const MOST_RUNS = 24;

export function MediaView({ source, runs }: { source: Source; runs: RunRow[] }) {
  const shown = runs.slice(0, MOST_RUNS);
  const ids = shown.map((run) => run.id).join();
  const { value: media, error } = useAsked(
    () => source.media(shown.map((run) => run.id)),
    [ids, state.version.value],
  );
  const [search, setSearch] = useState("");
  const [step, setStep] = useState<number | null>(null);
  const steps = useMemo(
    () => [...new Set((media ?? []).map((medium) => medium.step))].sort((a, b) => a - b),
    [media],
  );
  const byName = useMemo(() => {
    const wanted = (media ?? []).filter((medium) => medium.name.toLowerCase().includes(search.toLowerCase()));
    return [...Map.groupBy(wanted, (medium) => `${medium.kind} ${medium.name}`)];
  }, [media, search]);

  if (error) return <p class="problem">{error}</p>;
  if (!media) return <p class="wait">…</p>;
  if (!media.length)
    return <p class="empty">The drawn runs logged no pictures, figures, histograms, tables or texts.</p>;
  const place =
    step === null
      ? steps.length - 1
      : Math.max(
          0,
          steps.findLastIndex((known) => known <= step),
        );
  const limit = steps[place]!;
  return (
    <section class="media">
      <div class="controls sticky">
        <Search value={search} label="media by name" hint="name…" onInput={setSearch} />
        <label class="slider">
          Step{" "}
          <input
            type="range"
            min="0"
            max={steps.length - 1}
            value={place}
            onInput={(event) => setStep(steps[Number(event.currentTarget.value)]!)}
          />{" "}
          <output>{limit}</output>
        </label>
        {runs.length > MOST_RUNS ? (
          <span class="hint">
            the newest {MOST_RUNS} of {runs.length} drawn runs
          </span>
        ) : null}
      </div>
      {byName.map(([key, members]) => (
        <section key={key}>
          <h2>
            <bdi>{members[0]!.name}</bdi> <small>{members[0]!.kind}</small>
          </h2>
          <div class="gallery">
            {shown.flatMap((run) => {
              const own = members.filter((medium) => medium.run === run.id && medium.step <= limit);
              const newest = own.reduce((last, medium) => Math.max(last, medium.step), -Infinity);
              return own
                .filter((medium) => medium.step === newest)
                .map((medium, index) => (
                  <Item key={`${run.id} ${index}`} source={source} medium={medium} run={run} />
                ));
            })}
          </div>
        </section>
      ))}
    </section>
  );
}

export function Item({ source, medium, run }: { source: Source; medium: Medium; run: RunRow }) {
  const [frame, seen] = useSeen<HTMLElement>();
  return (
    <figure ref={frame} class={`medium ${medium.kind}`}>
      {seen ? <Content source={source} medium={medium} run={run} /> : <div class="blank" />}
      <figcaption>
        <Dot run={run.id} /> <bdi>{run.title}</bdi> · step {medium.step}
        {medium.bytes ? ` · ${format.bytes(medium.bytes)}` : ""}
      </figcaption>
    </figure>
  );
}

function Content({ source, medium, run }: { source: Source; medium: Medium; run: RunRow }) {
  const [shown, setShown] = useState<Set<string> | null>(null);
  const { data } = medium;
  if (medium.kind === "histogram") return <Histogram data={data} />;
  if (medium.kind === "text" && typeof data.text === "string") return <pre class="text">{data.text}</pre>;
  if (medium.kind === "artifact") return <p class="hint">SHA-256 {String(data.sha256 ?? "")}</p>;
  if (!medium.url)
    return <p class="hint">{medium.name} was left out of this report. It lies in the run's directory.</p>;
  if (medium.kind === "table")
    return <File source={source} url={medium.url} show={(text) => <Table rows={csvRows(text)} />} />;
  if (medium.kind === "text")
    return <File source={source} url={medium.url} show={(text) => <pre class="text">{text}</pre>} />;
  const alt = `${medium.name} of ${run.title} at step ${medium.step}`;
  if (medium.kind === "audio") return <audio controls preload="none" src={medium.url} aria-label={alt} />;
  if (medium.kind === "html")
    return <iframe class="page" sandbox="allow-scripts" src={medium.url} title={alt} />;
  if (medium.kind === "video" && !medium.isGif)
    return <video controls preload="metadata" src={medium.url} aria-label={alt} />;
  const layers = Array.isArray(data.masks) ? (data.masks as { name: string; url: string }[]) : [];
  const boxes = Array.isArray(data.boxes) ? (data.boxes as Box[]) : [];
  if (["image", "figure", "video"].includes(medium.kind)) {
    const visible =
      shown ?? new Set([...layers.map((layer) => layer.name), ...(boxes.length ? ["boxes"] : [])]);
    const names = [...layers.map((layer) => layer.name), ...(boxes.length ? ["boxes"] : [])];
    return (
      <>
        <div class="picture">
          <a href={medium.url} target="_blank" rel="noreferrer">
            <img src={medium.url} alt={alt} loading="lazy" />
          </a>
          {layers
            .filter((layer) => visible.has(layer.name))
            .map((layer) => (
              <img class="layer" key={layer.name} src={layer.url} alt="" />
            ))}
          {visible.has("boxes") ? <Boxes boxes={boxes} data={data} /> : null}
        </div>
        {names.length ? (
          <div class="layers">
            {names.map((name) => (
              <label class="check" key={name}>
                <input
                  type="checkbox"
                  checked={visible.has(name)}
                  onChange={() => {
                    const next = new Set(visible);
                    if (!next.delete(name)) next.add(name);
                    setShown(next);
                  }}
                />{" "}
                {name}
              </label>
            ))}
          </div>
        ) : null}
      </>
    );
  }
  return (
    <a href={medium.url} download>
      {medium.name}
    </a>
  );
}

interface Box {
  box: [number, number, number, number];
  label?: string;
}

function Boxes({ boxes, data }: { boxes: Box[]; data: Record<string, unknown> }) {
  const width = Number(data.width) || 1;
  const height = Number(data.height) || 1;
  return (
    <svg class="layer" viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
      {boxes.map(({ box: [left, top, right, bottom], label }, index) => (
        <g key={index}>
          <rect
            x={left}
            y={top}
            width={right - left}
            height={bottom - top}
            fill="none"
            stroke="#ffd400"
            vector-effect="non-scaling-stroke"
            stroke-width="2"
          />
          {label ? (
            <text x={left + 2} y={top - 2} font-size={height / 30} fill="#ffd400">
              {label}
            </text>
          ) : null}
        </g>
      ))}
    </svg>
  );
}

function Histogram({ data }: { data: Record<string, unknown> }) {
  const counts = (data.counts as number[]) ?? [];
  const edges = (data.edges as number[]) ?? [];
  const most = Math.max(1, ...counts);
  const low = edges[0] ?? 0;
  const span = (edges.at(-1) ?? 1) - low || 1;
  return (
    <svg
      class="histogram"
      viewBox="0 0 240 130"
      role="img"
      aria-label={`histogram of ${counts.reduce((sum, count) => sum + count, 0)} values from ${format.number(low)} to ${format.number(low + span)}`}
    >
      {counts.map((count, index) => {
        const left = ((edges[index]! - low) / span) * 240;
        const right = ((edges[index + 1]! - low) / span) * 240;
        return (
          <rect
            key={index}
            x={left}
            y={110 - (count / most) * 105}
            width={Math.max(0.5, right - left - 0.5)}
            height={(count / most) * 105}
          />
        );
      })}
      <text x="0" y="126">
        {format.number(low)}
      </text>
      <text x="240" y="126" text-anchor="end">
        {format.number(low + span)}
      </text>
    </svg>
  );
}

function File({
  source,
  url,
  show,
}: {
  source: Source;
  url: string;
  show: (text: string) => preact.JSX.Element;
}) {
  const { value, error } = useAsked(() => source.text(url), [url]);
  if (error) return <p class="problem">{error}</p>;
  return value === null ? <p class="wait">…</p> : show(value);
}

const MOST_ROWS = 200;

/** Read CSV as RFC 4180 writes it: fields in quotes may hold commas, line ends and doubled quotes. */
export function csvRows(text: string): string[][] {
  const rows: string[][] = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^,"\r\n]*))(,|\r?\n|$)/g)) {
    rows.at(-1)!.push(quoted?.replaceAll('""', '"') ?? plain ?? "");
    if (end === "") break;
    if (end !== ",") rows.push([]);
  }
  if (rows.at(-1)!.length <= 1 && !rows.at(-1)![0]) rows.pop();
  return rows;
}

function Table({ rows }: { rows: string[][] }) {
  const [head = [], ...body] = rows;
  const numeric = head.map((_, column) =>
    body.every((row) => row[column] !== "" && !Number.isNaN(Number(row[column]))),
  );
  return (
    <div class="scroll">
      <table class="plain">
        <thead>
          <tr>
            {head.map((column, index) => (
              <th key={index} class={numeric[index] ? "numeric" : ""}>
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {body.slice(0, MOST_ROWS).map((row, index) => (
            <tr key={index}>
              {row.map((cell, column) => (
                <td key={column} class={numeric[column] ? "numeric" : ""}>
                  {numeric[column] ? format.number(Number(cell)) : cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {body.length > MOST_ROWS ? (
        <p class="hint">
          the first {MOST_ROWS} of {body.length} rows
        </p>
      ) : null}
    </div>
  );
}
