// The language of `runs ls --filter`: lr > 1e-3 and status == "finished". The page filters by itself, at each key that
// is pressed, and a report has no server to ask. tests/view/filters.json holds what both implementations must answer.

import type { RunRow, Scalar } from "./types.ts";

export type Predicate = (run: RunRow) => boolean;
export type Value = Scalar | Value[] | Moment | undefined;
type Getter = (run: RunRow) => Value;

export class FilterError extends Error {
  readonly at: number;
  constructor(message: string, at: number) {
    super(message);
    this.at = at;
  }
}

/** Seconds since the epoch, which may be compared with a date in a text. */
class Moment {
  readonly seconds: number;
  constructor(seconds: number) {
    this.seconds = seconds;
  }
}

interface Token {
  kind: "name" | "text" | "number" | "sign" | "end";
  text: string;
  at: number;
}

const TOKEN =
  /\s*(?:(?<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\p{L}\p{N}_.]))|(?<name>[\p{L}_][\p{L}\p{N}_./:-]*|`[^`]+`)|(?<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?<sign>==|!=|<=|>=|&&|\|\||[<>~=!()[\],]))/uy;
const INSTEAD: Record<string, string> = { "=": "==", "&&": "and", "||": "or", "!": "not" };
const OPERATORS = new Set(["==", "!=", "<=", ">=", "<", ">", "~"]);
const DEEPEST = 50;

function tokens(source: string): Token[] {
  const found: Token[] = [];
  TOKEN.lastIndex = 0;
  let end = 0;
  while (source.slice(end).trim()) {
    const match = TOKEN.exec(source);
    if (!match?.groups) {
      const at = end + source.slice(end).search(/\S/);
      throw new FilterError(`${JSON.stringify(source.slice(at, at + 20))} is not understood`, at);
    }
    end = TOKEN.lastIndex;
    const [kind, text] = Object.entries(match.groups).find(([, text]) => text !== undefined)!;
    if (text! in INSTEAD) {
      throw new FilterError(
        `"${text}" is not an operator: did you mean "${INSTEAD[text!]}"?`,
        end - text!.length,
      );
    }
    found.push({ kind: kind as Token["kind"], text: text!, at: end - text!.length });
  }
  found.push({ kind: "end", text: "", at: source.length });
  return found;
}

/** Compile a filter. An empty one lets every run through. */
export function compile(source: string): Predicate {
  const list = tokens(source);
  let place = 0;
  let depth = 0;
  const peek = () => list[place]!;
  const next = () => list[place++]!;
  const isWord = (word: string) => peek().kind === "name" && peek().text === word;
  const isSign = (sign: string) => peek().kind === "sign" && peek().text === sign;

  function nested<T>(inner: () => T): T {
    if (++depth > DEEPEST)
      throw new FilterError(`the filter is nested more than ${DEEPEST} levels deep`, peek().at);
    const result = inner();
    depth--;
    return result;
  }

  function either(): Getter {
    const parts = [both()];
    while (isWord("or") && next()) parts.push(both());
    return parts.length === 1 ? parts[0]! : (run) => parts.some((part) => truthy(part(run)));
  }

  function both(): Getter {
    const parts = [negated()];
    while (isWord("and") && next()) parts.push(negated());
    return parts.length === 1 ? parts[0]! : (run) => parts.every((part) => truthy(part(run)));
  }

  function negated(): Getter {
    if (!isWord("not")) return comparison();
    next();
    const inner = nested(negated);
    return (run) => !truthy(inner(run));
  }

  function comparison(): Getter {
    let left = operand();
    const pairs: [string, Getter, Getter][] = [];
    for (let operator = sign(); operator; operator = sign()) {
      const right = operand();
      pairs.push([operator, left, right]);
      left = right;
    }
    if (!pairs.length) return left;
    return (run) => pairs.every(([operator, a, b]) => compare(operator, a(run), b(run)));
  }

  function sign(): string {
    if (isWord("in")) return next().text;
    if (isWord("not") && list[place + 1]!.text === "in") {
      place += 2;
      return "not in";
    }
    return peek().kind === "sign" && OPERATORS.has(peek().text) ? next().text : "";
  }

  function operand(): Getter {
    const token = next();
    if (token.kind === "number") {
      const value = Number(token.text);
      return () => value;
    }
    if (token.kind === "text") {
      const value = read(token);
      return () => value;
    }
    if (token.kind === "name" && !["and", "or", "not", "in"].includes(token.text)) {
      if (token.text === "true" || token.text === "false") return () => token.text === "true";
      if (token.text === "none") return () => null;
      const name = token.text.replaceAll("`", "");
      return (run) => lookUp(run, name);
    }
    if (token.kind === "sign" && token.text === "(") {
      const inner = nested(either);
      if (!isSign(")")) throw unexpected('")"');
      next();
      return inner;
    }
    if (token.kind === "sign" && token.text === "[") {
      const items = nested(entries);
      return (run) => items.map((item) => item(run));
    }
    place--;
    throw unexpected("a name or a value");
  }

  function entries(): Getter[] {
    const items: Getter[] = [];
    while (!isSign("]")) {
      if (items.length) {
        if (!isSign(",")) throw unexpected('"," or "]"');
        next();
      }
      items.push(operand());
    }
    next();
    return items;
  }

  function unexpected(wanted: string): FilterError {
    const { kind, text, at } = peek();
    return new FilterError(
      `expected ${wanted}, not ${kind === "end" ? "the end of the filter" : `"${text}"`}`,
      at,
    );
  }

  if (peek().kind === "end") return () => true;
  const result = either();
  if (peek().kind !== "end") throw unexpected('"and", "or" or the end');
  return (run) => truthy(result(run));
}

function read({ text, at }: Token): string {
  const body =
    text[0] === '"' ? text.slice(1, -1) : text.slice(1, -1).replaceAll('"', '\\"').replaceAll("\\'", "'");
  try {
    return JSON.parse(`"${body}"`) as string;
  } catch {
    throw new FilterError("this text has an unknown escape", at);
  }
}

function truthy(value: Value): boolean {
  return Array.isArray(value) ? value.length > 0 : Boolean(value);
}

function compare(operator: string, left: Value, right: Value): boolean {
  [left, right] = moments(left, right);
  switch (operator) {
    case "==":
      return equal(left, right);
    case "!=":
      return !equal(left, right);
    case "in":
      return contains(right, left);
    case "not in":
      return !contains(right, left);
    case "~":
      return typeof left === "string" && typeof right === "string" && pattern(right).test(left);
  }
  const numbers = typeof left === "number" && typeof right === "number";
  if (!numbers && !(typeof left === "string" && typeof right === "string")) return false;
  const [a, b] = [left as number, right as number];
  return operator === "<" ? a < b : operator === "<=" ? a <= b : operator === ">" ? a > b : a >= b;
}

function equal(left: Value, right: Value): boolean {
  if (Array.isArray(left) && Array.isArray(right)) {
    return left.length === right.length && left.every((item, index) => equal(item, right[index]));
  }
  return (left ?? null) === (right ?? null);
}

function contains(container: Value, item: Value): boolean {
  if (typeof container === "string") return typeof item === "string" && container.includes(item);
  return Array.isArray(container) && container.some((entry) => equal(item, entry));
}

/** A pattern of the shell: "*" for any text, "?" for one character, "[abc]" for one of some. */
function pattern(text: string): RegExp {
  const body = text.replaceAll(/\[!?[^\]]+\]|[\s\S]/gu, (part) => {
    if (part === "*") return "[\\s\\S]*";
    if (part === "?") return "[\\s\\S]";
    if (part.length > 2) return part.replace("[!", "[^").replaceAll("\\", "\\\\");
    return part.replaceAll(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
  });
  return new RegExp(`^${body}$`, "u");
}

function moments(left: Value, right: Value): [Value, Value] {
  if (left instanceof Moment) return [left.seconds, typeof right === "string" ? seconds(right) : right];
  if (right instanceof Moment) return [typeof left === "string" ? seconds(left) : left, right.seconds];
  return [left, right];
}

/** Read a date, in UTC where it names no zone. */
function seconds(text: string): number | null {
  const zoned = /(Z|[+-]\d\d:?\d\d)$/.test(text) || !text.includes("T") ? text : `${text}Z`;
  const value = Date.parse(zoned);
  return Number.isNaN(value) ? null : value / 1000;
}

const FIELDS = [
  ...["name", "pipeline", "status", "note", "seconds", "archived", "attempt", "tags", "sweep", "error"],
] as const;

/** Find a column of a run by its name: a field, a parameter (by any tail of its path), a metric's last value. */
export function lookUp(run: RunRow, name: string): Value {
  if (name === "id") return run.runId;
  if (name === "started") return new Moment(run.started);
  const field = FIELDS.find((known) => known === name);
  if (field) return run[field];
  if (name in run.config) return run.config[name];
  const metric = run.metrics[name];
  if (metric) return metric.last;
  const part = /^(.*)\.(last|best|best_step|last_step)$/.exec(name);
  const summary = part ? run.metrics[part[1]!] : undefined;
  if (summary) return summary[part![2] as "last"];
  const tail = `.${name}`;
  const found = Object.keys(run.config).filter(
    (key) => key.endsWith(tail) || key.replace(".params.", ".").endsWith(tail),
  );
  return found.length ? run.config[found.sort((a, b) => a.length - b.length)[0]!] : undefined;
}
