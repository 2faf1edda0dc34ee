// Small parts that several views share.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { lostMetric, statusOf } from "./columns.ts";
import { colourOf } from "./state.ts";
import type { RunRow } from "./types.ts";

const STATUS: Record<string, string> = {
  running: "●",
  finished: "✓",
  finished_with_cleanup_errors: "✓",
  failed: "✕",
  crashed: "✕",
  interrupted: "◼",
};

export function Status({ run }: { run: RunRow }) {
  const words = statusOf(run);
  const isMarked = run.status.startsWith("finished") && lostMetric(run);
  return (
    <span
      class={`status ${run.status} ${isMarked ? "diverged" : ""}`}
      title={run.error ? `${words}: ${run.error}` : words}
    >
      <span aria-hidden="true">{isMarked ? "!" : (STATUS[run.status] ?? "?")}</span>
      <span class="unseen">{words}</span>
    </span>
  );
}

export function Dot({ run, dim }: { run: string; dim?: boolean }) {
  return (
    <span
      class="dot"
      style={{
        background: dim ? "transparent" : colourOf.value.get(run),
        borderColor: colourOf.value.get(run),
      }}
    />
  );
}

export function Spark({ values, colour }: { values: number[]; colour: string }) {
  const finite = values.filter(Number.isFinite);
  if (finite.length < 2) return <span class="spark" />;
  const low = Math.min(...finite);
  const span = Math.max(...finite) - low || 1;
  const step = 72 / (values.length - 1);
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (!Number.isFinite(value)) {
      pen = "M";
      return;
    }
    path += `${pen}${(index * step).toFixed(1)} ${(17 - ((value - low) / span) * 15).toFixed(1)}`;
    pen = "L";
  });
  return (
    <svg class="spark" viewBox="0 0 72 18" width="72" height="18" aria-hidden="true">
      <path d={path} fill="none" stroke={colour} stroke-width="1.5" stroke-linejoin="round" />
    </svg>
  );
}

export function Search(props: {
  value: string;
  label: string;
  hint: string;
  onInput: (text: string) => void;
  error?: string;
}) {
  return (
    <label class="search">
      <span class="unseen">{props.label}</span>
      <input
        type="search"
        placeholder={props.hint}
        value={props.value}
        spellcheck={false}
        aria-invalid={Boolean(props.error)}
        onInput={(event) => props.onInput(event.currentTarget.value)}
      />
      {props.error ? (
        <span class="problem" role="alert">
          {props.error}
        </span>
      ) : null}
    </label>
  );
}

/** A button that opens a small panel; Escape and a click elsewhere close it. */
export function Menu({
  label,
  title,
  children,
}: {
  label: string;
  title?: string;
  children: ComponentChildren;
}) {
  const [open, setOpen] = useState(false);
  const own = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const close = (event: Event) => {
      if (
        event instanceof KeyboardEvent ? event.key === "Escape" : !own.current?.contains(event.target as Node)
      )
        setOpen(false);
    };
    document.addEventListener("pointerdown", close);
    document.addEventListener("keydown", close);
    return () => {
      document.removeEventListener("pointerdown", close);
      document.removeEventListener("keydown", close);
    };
  }, [open]);
  return (
    <div class="menu" ref={own}>
      <button type="button" aria-expanded={open} title={title} onClick={() => setOpen(!open)}>
        {label} <span aria-hidden="true">▾</span>
      </button>
      {open ? <div class="panel">{children}</div> : null}
    </div>
  );
}

export function Check(props: { checked: boolean; label: ComponentChildren; onChange: () => void }) {
  return (
    <label class="check">
      <input type="checkbox" checked={props.checked} onChange={props.onChange} /> {props.label}
    </label>
  );
}

export interface Loaded<T> {
  value: T | null;
  error: string;
}

/** Ask for something, again whenever `keys` change. The old answer stays until the new one is there. */
export function useAsked<T>(ask: (signal: AbortSignal) => Promise<T>, keys: unknown[]): Loaded<T> {
  const [state, setState] = useState<Loaded<T>>({ value: null, error: "" });
  useEffect(() => {
    const abort = new AbortController();
    ask(abort.signal).then(
      (value) => abort.signal.aborted || setState({ value, error: "" }),
      (error: unknown) =>
        abort.signal.aborted ||
        setState((old) => ({
          value: old.value,
          error: error instanceof Error ? error.message : String(error),
        })),
    );
    return () => abort.abort();
  }, keys);
  return state;
}

const NEAR = 300; // pixels outside of the visible part

/** Tell when an element is near the visible part of the page. */
export function useSeen<T extends Element>(): [ref: { current: T | null }, seen: boolean] {
  const ref = useRef<T>(null);
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const watch = new IntersectionObserver((entries) => setSeen(entries.at(-1)!.isIntersecting), {
      rootMargin: `${NEAR}px`,
    });
    const element = ref.current;
    if (element) {
      const { top, bottom } = element.getBoundingClientRect(); // the observer tells it a frame later
      setSeen(top < innerHeight + NEAR && bottom > -NEAR);
      watch.observe(element);
    }
    return () => watch.disconnect();
  }, []);
  return [ref, seen];
}

/** The width of an element in CSS pixels, as it changes. */
export function useWidth<T extends Element>(): [ref: { current: T | null }, width: number] {
  const ref = useRef<T>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const watch = new ResizeObserver((entries) => setWidth(Math.floor(entries.at(-1)!.contentRect.width)));
    if (ref.current) {
      setWidth(ref.current.clientWidth); // none of these elements has a padding
      watch.observe(ref.current);
    }
    return () => watch.disconnect();
  }, []);
  return [ref, width];
}

export function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName))
  );
}
