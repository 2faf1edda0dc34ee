// The trials that pass the filters, in a table that sorts; what is said of the one that is pointed at.

import { type Signal, useComputed } from "@preact/signals";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import * as state from "../state.ts";
import type { Pointed } from "./drawing.tsx";
import { type Column, columnsOf, type Sweep, sortRows } from "./model.ts";

const PAGE = 100;
const REGION = { tabIndex: 0, role: "region", "aria-label": "trials" } as const; // it scrolls by keys
const OBJECTIVE = 2; // its column

interface TrialsProps {
  sweep: Sweep;
  passes: Uint8Array;
  pointed: Signal<Pointed>;
}

export function Trials({ sweep, passes, pointed }: TrialsProps) {
  const columns = useMemo(() => columnsOf(sweep), [sweep]);
  const [by, setBy] = useState(0);
  const [down, setDown] = useState(false);
  const [limit, setLimit] = useState(PAGE);
  const column = columns[by] ?? columns[0]!;
  const rows = useMemo(() => {
    const kept = [...passes.keys()].filter((row) => passes[row]);
    return sortRows(kept, column, down);
  }, [columns, passes, column, down]);
  const known = new Set(state.runs.value.map((run) => run.id));
  const left = rows.length - limit;
  return (
    <>
      <div class="table trials" {...REGION}>
        <table>
          <thead>
            <tr>
              {columns.map(({ name, numeric }, index) => (
                <th
                  key={index}
                  scope="col"
                  class={numeric ? "numeric" : ""}
                  aria-sort={index === by ? (down ? "descending" : "ascending") : "none"}
                >
                  <button
                    type="button"
                    title={name}
                    onClick={() => {
                      setDown(by === index ? !down : index === OBJECTIVE && sweep.maximises);
                      setBy(index);
                      setLimit(PAGE);
                    }}
                  >
                    <bdi>{name}</bdi>
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, limit).map((row) => {
              const run = sweep.data.runs[row] ?? "";
              return (
                <Trial
                  key={row}
                  {...{ row, columns, pointed }}
                  isBest={sweep.isBest(row)}
                  run={known.has(run) ? run : ""}
                />
              );
            })}
          </tbody>
        </table>
      </div>
      {left > 0 ? (
        <p>
          <button type="button" onClick={() => setLimit(limit + PAGE)}>
            Show {Math.min(PAGE, left)} more of {left.toLocaleString("en")}
          </button>
        </p>
      ) : null}
    </>
  );
}

interface TrialProps {
  row: number;
  columns: Column[];
  pointed: Signal<Pointed>;
  isBest: boolean;
  run: string; // its key, if the page has it
}

function Trial({ row, columns, pointed, isBest, run }: TrialProps) {
  const isPointed = useComputed(() => pointed.value.row === row).value;
  return (
    <tr
      class={[isBest ? "best" : "", isPointed ? "pointed" : ""].join(" ").trim()}
      data-trial={row}
      onPointerEnter={() => {
        pointed.value = { row, at: null };
      }}
      onPointerLeave={() => {
        pointed.value = { row: null, at: null };
      }}
    >
      {columns.map((column, index) => (
        <td key={index} class={column.numeric ? "numeric" : ""} title={column.text(row)}>
          {run && column.name === "run" && !column.numeric ? (
            <button type="button" class="link" onClick={() => state.open(run)}>
              <bdi>{column.text(row)}</bdi>
            </button>
          ) : (
            <bdi>{column.text(row)}</bdi>
          )}
        </td>
      ))}
    </tr>
  );
}

/** Say all about the trial that is pointed at in a drawing, beside the pointer. */
export function Hint({ sweep, pointed }: { sweep: Sweep; pointed: Signal<Pointed> }) {
  const own = useRef<HTMLDivElement>(null);
  const { row, at } = pointed.value;
  useLayoutEffect(() => {
    const box = own.current;
    if (!box || !at) return;
    const [x, y] = at;
    const left = x + 16 + box.offsetWidth > innerWidth ? Math.max(4, x - 16 - box.offsetWidth) : x + 16;
    const top = Math.max(4, Math.min(y + 16, innerHeight - box.offsetHeight - 4));
    box.style.transform = `translate(${left}px, ${top}px)`;
  }, [row, at]);
  const { trials, axes, others } = sweep.data;
  const isShown = row !== null && at !== null;
  const lines: [string, string][] = isShown
    ? [
        [sweep.objective.name, trials.text[row] ?? ""],
        ...others.map(({ name, values }): [string, string] => [name, String(values[row] ?? "")]),
        ...axes.map((axis): [string, string] => [axis.name, sweep.shown(axis, row)]),
        ["run", trials.run[row] ?? ""],
        ["error", trials.error[row] ?? ""],
      ]
    : [];
  return (
    <div class="tip about" role="status" ref={own} hidden={!isShown}>
      {isShown ? (
        <>
          <strong>trial {trials.number[row]}</strong> {trials.status[row]}
          <dl>
            {lines
              .filter(([, words]) => words)
              .map(([name, words], index) => [
                <dt key={`name${index}`}>{name}</dt>,
                <dd key={`words${index}`}>{words}</dd>,
              ])}
          </dl>
        </>
      ) : null}
    </div>
  );
}
