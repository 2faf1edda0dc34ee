// The table of runs. Only rows near the visible part are in the document, so 10,000 runs scroll as 20 do.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import * as columns from "./columns.ts";
import { lookUp } from "./filter.ts";
import * as format from "./format.ts";
import { Check, Dot, Menu, Spark, Status, useAsked } from "./parts.tsx";
import * as state from "./state.ts";
import type { RunRow, Source, Spark as SparkData } from "./types.ts";

const ROW = 34;
const MOST_HEIGHT = 12 * ROW;

export function RunTable({ source }: { source: Source }) {
  const list = state.visible.value;
  const shown = useMemo(
    () => columns.shown(list, state.chosenColumns.value, state.onlyDiffering.value),
    [list, state.chosenColumns.value, state.onlyDiffering.value],
  );
  const order = useMemo(
    () => grouped(columns.sorted(list, state.sort.value), state.groupBy.value),
    [list, state.sort.value, state.groupBy.value],
  );
  const bests = useMemo(() => shown.map((column) => columns.best(list, column)), [list, shown]);
  const frame = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const first = Math.max(0, Math.floor(top / ROW) - 10);
  const last = Math.min(order.length, first + Math.ceil(MOST_HEIGHT / ROW) + 20);
  const inSight = order.slice(first, last);
  const ids = inSight.map((run) => run.id);
  const sparks = useAsked(() => source.sparks(inSight), [ids.join(), state.version.value]).value;
  const base = list.find((run) => run.id === state.baseline.value);
  const [focus, setFocus] = useState(0);

  useEffect(() => {
    if (top > order.length * ROW) frame.current?.scrollTo(0, 0);
  }, [order.length]);

  function key(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    const run = order[focus];
    if (step) {
      const next = Math.min(order.length - 1, Math.max(0, focus + step));
      setFocus(next);
      const box = frame.current!;
      if (next * ROW < box.scrollTop) box.scrollTop = next * ROW;
      if ((next + 2) * ROW > box.scrollTop + box.clientHeight)
        box.scrollTop = (next + 2) * ROW - box.clientHeight;
    } else if (event.key === "Enter" && run && event.target === event.currentTarget) state.open(run.id);
    else if (event.key === " " && run && event.target === event.currentTarget)
      state.toggle(state.hidden, run.id);
    else if (event.key === "c" && run) state.toggle(state.picked, run.id);
    else return;
    event.preventDefault();
  }

  if (!list.length)
    return <p class="empty">{state.runs.value.length ? "No run matches the filter." : "No runs yet."}</p>;
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the frame scrolls and takes the arrow keys
    <div
      class="table"
      ref={frame}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: a frame that scrolls must be reachable by keys
      tabIndex={0}
      style={{ maxHeight: `${MOST_HEIGHT + 1.5 * ROW}px` }}
      onScroll={(event) => setTop(event.currentTarget.scrollTop)}
      onKeyDown={key}
    >
      <table aria-rowcount={order.length}>
        <thead>
          <tr>
            <th class="pick">
              <span class="unseen">drawn</span>
            </th>
            <Head column="name" label="run" />
            <th aria-label="curve" />
            {shown.map((column) => (
              <Head
                key={column.key}
                column={column.key}
                label={column.label}
                numeric={column.numeric}
                group={column.group}
                goal={column.goal ?? null}
              />
            ))}
          </tr>
        </thead>
        <tbody>
          {first > 0 ? <tr style={{ height: `${first * ROW}px` }} /> : null}
          {inSight.map((run, index) => (
            <Row
              key={run.id}
              run={run}
              focused={first + index === focus}
              shown={shown}
              bests={bests}
              base={base}
              spark={sparks?.get(run.id)}
              group={state.groupBy.value.length ? groupName(run, state.groupBy.value) : ""}
            />
          ))}
          {last < order.length ? <tr style={{ height: `${(order.length - last) * ROW}px` }} /> : null}
        </tbody>
      </table>
    </div>
  );
}

function Head({
  column,
  label,
  numeric,
  group,
  goal,
}: {
  column: string;
  label: string;
  numeric?: boolean;
  group?: string;
  goal?: "min" | "max" | null;
}) {
  const sort = state.sort.value;
  const direction = sort === column ? "ascending" : sort === `-${column}` ? "descending" : "none";
  return (
    <th
      class={`${numeric ? "numeric" : ""} ${group ?? ""}`}
      aria-sort={direction}
      title={group === "metric" ? `${column}, its last value` : column}
    >
      <button
        type="button"
        onClick={() => {
          state.sort.value =
            direction === "none"
              ? numeric && goal !== "min" // the best comes first
                ? `-${column}`
                : column
              : sort.startsWith("-")
                ? column
                : `-${column}`;
        }}
      >
        {label}
        <span aria-hidden="true">
          {direction === "ascending" ? " ↑" : direction === "descending" ? " ↓" : ""}
        </span>
      </button>
    </th>
  );
}

interface RowProps {
  run: RunRow;
  focused: boolean;
  shown: columns.Column[];
  bests: (number | undefined)[];
  base: RunRow | undefined;
  spark: SparkData | undefined;
  group: string;
}

function Row({ run, focused, shown, bests, base, spark, group }: RowProps) {
  const colour = state.colourOf.value.get(run.id) ?? "currentColor";
  const off = state.hidden.value.includes(run.id);
  const isPicked = state.picked.value.includes(run.id);
  return (
    <tr
      class={`${focused ? "focused" : ""} ${off ? "off" : ""} ${run.archived ? "archived" : ""} ${base === run ? "base" : ""}`}
      data-run={run.id}
    >
      <td class="pick">
        <button
          type="button"
          class="eye"
          aria-pressed={!off}
          aria-label={`draw ${run.title}`}
          onClick={() => state.toggle(state.hidden, run.id)}
        >
          <Dot run={run.id} dim={off} />
        </button>
      </td>
      <td class="name">
        <input
          type="checkbox"
          aria-label={`compare ${run.title}`}
          checked={isPicked}
          onChange={() => state.toggle(state.picked, run.id)}
        />
        <Status run={run} />
        <a
          href={`#view=run&run=${encodeURIComponent(run.id)}`}
          title={[run.title, run.runId, run.note].filter(Boolean).join("\n")}
          onClick={(event) => {
            if (event.ctrlKey || event.metaKey || event.shiftKey) return;
            event.preventDefault();
            state.open(run.id);
          }}
        >
          <bdi>{run.name}</bdi>
          {run.title === run.name ? null : <small class="apart">{run.title.slice(run.name.length)}</small>}
        </a>
        {group ? <span class="tag">{group}</span> : null}
        {run.tags.map((tag) => (
          <button
            type="button"
            class="tag"
            key={tag}
            title={`show the runs with the tag ${tag}`}
            onClick={() => {
              state.filter.value = `${JSON.stringify(tag)} in tags`;
            }}
          >
            {tag}
          </button>
        ))}
        {run.note ? (
          <span class="note" title={run.note}>
            ✎
          </span>
        ) : null}
      </td>
      <td title={spark ? spark.metric : ""}>
        {spark ? <Spark values={spark.values} colour={colour} /> : null}
      </td>
      {shown.map((column, index) => {
        const value = column.value(run);
        const reference = base && base !== run ? column.value(base) : undefined;
        const change =
          column.group === "metric" && typeof value === "number" && typeof reference === "number"
            ? format.percent(value, reference)
            : "";
        const text = column.text(run, state.now.value);
        const isBest = bests[index] !== undefined && value === bests[index];
        return (
          <td
            key={column.key}
            class={column.numeric ? "numeric" : ""}
            title={column.key === "started" ? format.moment(run.started) : `${column.key} = ${text}`}
          >
            {isBest ? <b title={`the best ${column.key} of these runs`}>{text}</b> : text}
            {change ? <span class="change"> {change}</span> : null}
          </td>
        );
      })}
    </tr>
  );
}

/** Name the group of a run by the values that make it: "optimiser=lion lr=0.001". */
export function groupName(run: RunRow, keys: string[]): string {
  return keys.map((key) => `${run.labels[key] ?? key}=${format.value(lookUp(run, key) ?? null)}`).join(" ");
}

function grouped(list: RunRow[], keys: string[]): RunRow[] {
  if (!keys.length) return list;
  const groups = Map.groupBy(list, (run) => groupName(run, keys));
  return [...groups.values()].flat();
}

/** The controls above the table: columns, groups, baseline, archived. */
export function TableMenu() {
  const list = state.visible.value;
  const available = columns.all(list);
  const chosen = state.chosenColumns.value;
  const shownKeys = columns.shown(list, chosen, state.onlyDiffering.value).map((column) => column.key);
  const varied = columns.parameters(list, true);
  const labels = columns.labelsOf(list);
  return (
    <div class="controls">
      <Menu label="Columns" title="choose the columns of the table">
        <Check
          checked={state.onlyDiffering.value && !chosen.length}
          label="only what differs"
          onChange={() => {
            const differing = state.onlyDiffering.value && !chosen.length;
            state.chosenColumns.value = [];
            state.onlyDiffering.value = !differing;
          }}
        />
        <hr />
        <div class="scroll">
          {available.map((column) => (
            <Check
              key={column.key}
              checked={shownKeys.includes(column.key)}
              label={column.key}
              onChange={() => {
                state.chosenColumns.value = shownKeys.includes(column.key)
                  ? shownKeys.filter((key) => key !== column.key)
                  : [...shownKeys, column.key];
              }}
            />
          ))}
        </div>
        {chosen.length ? (
          <button
            type="button"
            onClick={() => {
              state.chosenColumns.value = [];
            }}
          >
            back to the usual columns
          </button>
        ) : null}
      </Menu>
      <Menu
        label={
          state.groupBy.value.length
            ? `Grouped by ${state.groupBy.value.map((key) => labels[key] ?? key).join(", ")}`
            : "Group"
        }
        title="draw the mean and band of runs that share these values"
      >
        {varied.length ? null : <p>All runs have the same parameters.</p>}
        <div class="scroll">
          {varied.map((key) => (
            <Check
              key={key}
              checked={state.groupBy.value.includes(key)}
              label={key}
              onChange={() => state.toggle(state.groupBy, key)}
            />
          ))}
        </div>
      </Menu>
      <label>
        Baseline{" "}
        <select
          value={state.baseline.value}
          onChange={(event) => {
            state.baseline.value = event.currentTarget.value;
          }}
        >
          <option value="">none</option>
          {list.slice(0, 200).map((run) => (
            <option key={run.id} value={run.id}>
              {run.title}
            </option>
          ))}
        </select>
      </label>
      {state.runs.value.some((run) => run.archived) ? (
        <Check
          checked={state.showArchived.value}
          label="archived"
          onChange={() => {
            state.showArchived.value = !state.showArchived.value;
          }}
        />
      ) : null}
      <button
        type="button"
        onClick={() => {
          state.hidden.value = state.hidden.value.length ? [] : list.map((run) => run.id);
        }}
      >
        {state.hidden.value.length ? "Draw all" : "Draw none"}
      </button>
      {state.picked.value.length > 1 ? (
        <button
          type="button"
          class="primary"
          onClick={() => {
            state.view.value = "compare";
          }}
        >
          Compare {state.picked.value.length}
        </button>
      ) : null}
    </div>
  );
}
