// A server as the place where answers come from.

import type { Transport } from "./answers.ts";
import type { Change } from "./types.ts";

async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is `ridgepole view` still running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401)
    throw new Error("Open the address that `ridgepole view` printed: it has the token.");
  const said = (await answer.json().catch(() => null)) as {
    error?: { message?: string; hint?: string };
  } | null;
  const { message, hint } = said?.error ?? {};
  throw new Error(
    [message ?? `The server answered ${answer.status} to ${path.split("?")[0]}.`, hint]
      .filter(Boolean)
      .join(" "),
  );
}

function post(path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Ridgepole": "1" },
    body: JSON.stringify(body),
    ...(signal ? { signal } : {}),
  });
}

export function server(): Transport {
  return {
    live: true,
    get: async (path) => (await ask(path)).json(),
    post: async (path, body) => (await post(path, body)).json(),
    chart: async (query, signal) => (await post("api/chart", query, signal)).arrayBuffer(),
    file: (run, path) => `api/runs/${run}/file/${path.split("/").map(encodeURIComponent).join("/")}`,
    follow,
  };
}

interface Event {
  list?: boolean;
  runs?: string[];
}

const POLL_MS = 2000; // for a browser without server-sent events

/** Follow the server's events while the page is shown; a hidden one holds no connection. */
function follow(changed: (changes: Change[]) => void, state: (connected: boolean) => void): () => void {
  let events: EventSource | null = null;
  let since = "";
  let polling: ReturnType<typeof setInterval> | undefined;
  const tell = (kind: string, { list, runs = [] }: Event) => {
    const changes: Change[] = list || kind === "reset" ? [{ kind: "runs" }] : [];
    if (runs.length) changes.push({ kind: "metrics", runs });
    if (changes.length) changed(changes);
  };
  const poll = async () => {
    try {
      const answer = await ask(`api/changes?since=${encodeURIComponent(since)}`);
      const { id, event, data } = (await answer.json()) as { id: string; event: string; data: Event };
      state(true);
      if (id !== since) tell(event, data);
      since = id;
    } catch {
      state(false);
    }
  };
  const open = () => {
    if (typeof EventSource === "undefined") {
      polling ??= setInterval(poll, POLL_MS);
      return;
    }
    events = new EventSource(`api/events${since ? `?since=${encodeURIComponent(since)}` : ""}`);
    events.addEventListener("open", () => state(true));
    events.addEventListener("error", () => state(false)); // the browser tries again by itself
    for (const kind of ["change", "reset"]) {
      events.addEventListener(kind, (event: MessageEvent<string>) => {
        const isFirst = !since;
        since = event.lastEventId || since;
        if (!isFirst) tell(kind, JSON.parse(event.data) as Event);
      });
    }
    events.addEventListener("end", () => state(false));
  };
  const close = () => {
    events?.close();
    events = null;
    clearInterval(polling);
    polling = undefined;
  };
  const look = () => {
    close();
    if (!document.hidden) open();
  };
  document.addEventListener("visibilitychange", look);
  look();
  return () => {
    document.removeEventListener("visibilitychange", look);
    close();
  };
}
