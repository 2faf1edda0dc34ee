// What was seen of a run while it ran: system metrics, where its time went, and alerts.

import { useEffect, useMemo, useRef } from "preact/hooks";
import type uPlot from "uplot";
import * as format from "../format.ts";
import { useAsked, useSeen, useWidth } from "../parts.tsx";
import { draw, type Line } from "../plot.ts";
import * as state from "../state.ts";
import type { Alert, RunRow, Source, StepTime, SystemMetrics } from "../types.ts";

const PARTS = ["code", "data", "logging", "checkpoints", "ranks"] as const;
const SAID: Record<(typeof PARTS)[number], string> = {
  code: "your code",
  data: "waiting for data",
  logging: "logging",
  checkpoints: "checkpoints",
  ranks: "waiting for other ranks",
};
const COLOURS = ["#3b78c9", "#d1702f", "#2f9e6e", "#b0529f", "#8a7a2e", "#5f6bd8", "#c04f4f", "#4d8f9e"];

/** Where the time of the steps went: a bar for each rank, and the verdict in words. */
export function StepTimes({ verdict, times }: { verdict: string; times: StepTime[] }) {
  if (!times.length) return null;
  return (
    <section class="steptimes" aria-label="step times">
      <p>
        <b>{verdict}</b>
      </p>
      {times.slice(0, 8).map((time) => {
        const parts = PARTS.filter((part) => time[part] / time.seconds >= 0.005);
        return (
          <div class="row" key={time.rank}>
            {times.length > 1 ? <small>rank {time.rank}</small> : null}
            <ol class="parts" aria-label={`step times of rank ${time.rank}`}>
              {parts.map((part) => (
                <li
                  key={part}
                  class={part}
                  style={{ flexGrow: time[part] / time.seconds }}
                  title={`${SAID[part]}: ${format.duration(time[part])}, ${share(time[part] / time.seconds)}`}
                >
                  <span>
                    {SAID[part]} {share(time[part] / time.seconds)}
                  </span>
                </li>
              ))}
            </ol>
            <small>{rates(time)}</small>
          </div>
        );
      })}
    </section>
  );
}

function share(of: number): string {
  return `${(of * 100).toFixed(0)} %`;
}

function rates(time: StepTime): string {
  const { mfu, flops_per_second: _, ...others } = time.rates;
  const said = Object.entries(others).map(
    ([name, rate]) => `${format.number(Number(rate.toPrecision(4)))} ${name.replace("_per_second", "/s")}`,
  );
  return [...said, ...(mfu === undefined ? [] : [`MFU ${share(mfu)}`])].join(" · ");
}

export function AlertCount({ alerts }: { alerts: Alert[] }) {
  const bad = alerts.filter((alert) => alert.level !== "info").length;
  return bad ? <span class="count"> {bad}</span> : null;
}

export function Alerts({ alerts }: { alerts: Alert[] }) {
  if (!alerts.length) return <p class="empty">This run has no alerts.</p>;
  return (
    <ol class="alerts" aria-label="alerts">
      {alerts.toReversed().map((alert, index) => (
        <li key={index} class={alert.level}>
          <b>{alert.title}</b>{" "}
          <small>
            {alert.kind} · {format.moment(alert.time)}
            {alert.step === null ? "" : ` · step ${alert.step}`}
            {alert.rank ? ` · rank ${alert.rank}` : ""}
          </small>
          {alert.text ? <pre class="text">{alert.text}</pre> : null}
        </li>
      ))}
    </ol>
  );
}

const SECTIONS: [string, RegExp][] = [
  ["steps", /^(steps|items|.*_per_second$|code|data|logging|checkpoints|ranks|mfu)/],
  ["cards", /^gpu\d+_/],
  ["this run's processes", /^(cpu|memory|processes|read|written|limit)/],
  ["host", /^(host|disk|net)/],
];

/** The charts of the system metrics, a section for steps, cards, processes and host. */
export function System({ source, run }: { source: Source; run: RunRow }) {
  const { value: ranks, error } = useAsked(() => source.system(run.id), [run.id, state.version.value]);
  const sections = useMemo(() => sectionsOf(ranks ?? []), [ranks]);
  if (error) return <p class="problem">{error}</p>;
  if (!ranks) return <p class="wait">…</p>;
  if (!sections.length)
    return (
      <p class="empty">
        This run has no system metrics: they begin after the first interval, 10 s unless `system` says else.
      </p>
    );
  return (
    <section class="charts" aria-label="system metrics">
      <p class="hint">
        {ranks
          .map((rank) => place(rank, ranks.length > 1))
          .filter(Boolean)
          .join(" · ")}
      </p>
      {sections.map(([section, names]) => (
        <div class="section" key={section}>
          <h2>
            {section} <small>{names.length}</small>
          </h2>
          <div class="grid">
            {names.map((name) => (
              <SystemChart key={name} name={name} ranks={ranks} />
            ))}
          </div>
        </div>
      ))}
    </section>
  );
}

function place({ rank, header }: SystemMetrics, several: boolean): string {
  if (!header.node) return "";
  const limits = [
    header.limit_cpus ? `limited to ${format.number(header.limit_cpus)} cores` : "",
    header.limit_memory_bytes ? `limited to ${format.bytes(header.limit_memory_bytes)}` : "",
  ];
  const cards = (header.cards ?? []).map(({ card, name }) => `${card} ${name}`);
  const node = `${several ? `rank ${rank}: ` : ""}${header.node}, ${header.cpus} cores`;
  return [node, ...limits, ...cards].filter(Boolean).join(", ");
}

function sectionsOf(ranks: SystemMetrics[]): [string, string[]][] {
  const idle = /^(logging|checkpoints|ranks)_percent$/; // said only where there was some
  const some = ({ series }: SystemMetrics, name: string) =>
    !idle.test(name) || series[name]!.value.some((value) => value >= 0.1);
  const left = new Set(ranks.flatMap((rank) => Object.keys(rank.series).filter((name) => some(rank, name))));
  const take = (pattern: RegExp) => {
    const names = [...left].filter((name) => pattern.test(name));
    for (const name of names) left.delete(name);
    return names;
  };
  // The host's and the cards' rates end like those of steps
  const order = [SECTIONS[1]!, SECTIONS[3]!, SECTIONS[2]!, SECTIONS[0]!, ["others", /./] as [string, RegExp]];
  const found = new Map(order.map(([section, pattern]) => [section, take(pattern)]));
  return [...SECTIONS.map(([section]) => section), "others"]
    .map((section): [string, string[]] => [section, found.get(section)!])
    .filter(([, names]) => names.length);
}

function SystemChart({ name, ranks }: { name: string; ranks: SystemMetrics[] }) {
  const [card, seen] = useSeen<HTMLElement>();
  const [box, width] = useWidth<HTMLDivElement>();
  const plot = useRef<uPlot | null>(null);
  const isBytes = name.includes("bytes");
  const lines = useMemo(
    () =>
      ranks.flatMap((rank, index): Line[] => {
        const series = rank.series[name];
        if (!series) return [];
        return [
          {
            run: String(rank.rank),
            name: `rank ${rank.rank}`,
            colour: COLOURS[index % COLOURS.length]!,
            x: Float64Array.from(series.time),
            y: Float64Array.from(series.value, (value) => (isBytes ? value / 1e6 : value)),
            low: null,
            high: null,
            faint: false,
            nonfinite: [],
          },
        ];
      }),
    [ranks, name],
  );
  useEffect(() => {
    if (!seen || !box.current || !width) return;
    plot.current = draw(box.current, lines, {
      width,
      height: 160,
      axis: "",
      time: true,
      logX: false,
      logY: false,
      dark: state.dark.value,
      range: null,
      whole: true,
      onCut: () => {},
      onZoom: () => {},
    });
    return () => {
      plot.current?.destroy();
      plot.current = null;
    };
  }, [seen, lines, width, state.dark.value]);
  const title = label(name);
  return (
    <article class="chart" ref={card} aria-label={title} data-drawn={seen ? lines.length : ""}>
      <header>
        <h3 title={name}>
          <bdi>{title}</bdi>
        </h3>
      </header>
      <div ref={box} class="plot" style={{ height: "160px" }} />
    </article>
  );
}

/** Write a metric's name with its unit: "gpu0 power, W" for `gpu0_power_watts`. */
export function label(name: string): string {
  const units: [string, string][] = [
    ["_bytes_per_second", "MB/s"],
    ["_bytes", "MB"],
    ["_per_second", "1/s"],
    ["_percent", "%"],
    ["_watts", "W"],
    ["_celsius", "°C"],
    ["_mhz", "MHz"],
  ];
  const known = units.find(([end]) => name.endsWith(end));
  const words = (known ? name.slice(0, -known[0].length) : name).replaceAll("_", " ");
  const what = known?.[1] === "°C" ? "temperature" : "utilisation";
  return known ? `${words.replace(/^(gpu\d+)$/, `$1 ${what}`)}, ${known[1]}` : words;
}
