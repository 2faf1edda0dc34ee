// What all views share: the data, which trials pass the filters, which one is pointed at, and how a canvas is kept.

const data = JSON.parse(document.getElementById("data").textContent);
const trials = data.trials;
const count = trials.number.length;
const maximises = data.metric.goal === "maximize";
const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const CONSTANT = "No parameter varies: there is nothing to compare.";
const plots = [];
const listeners = []; // called when the filters have changed
const filters = new Map(); // number of an axis -> [low, high], as places; the objective comes after the parameters
const state = { row: null, axis: null, passes: new Uint8Array(count).fill(1), passing: count };
const objective = {
  name: data.metric.name,
  kind: data.scale.log ? "log" : "linear",
  step: 0,
  ticks: data.scale.ticks,
  labels: data.scale.ticks.map(([, label]) => label),
  places: trials.place,
  values: trials.value,
};
const axes = [...data.axes, objective];
for (const axis of axes) axis.drawn ??= axis.places; // trials that share a value of a choice are drawn side by side

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children); // a string becomes text, never markup
  return made;
}

function section(title, note, ...children) {
  const made = element("section", {}, element("h2", {}, title));
  if (note) made.append(element("div", { class: "note" }, ...note));
  made.append(...children);
  return made;
}

function shown(axis, row) {
  const value = axis.values[row];
  if (value === null) return "";
  if (axis === objective) return trials.text[row];
  return axis.kind === "choice" ? axis.ticks[value][1] : brief(value);
}

function brief(number) {
  if (Number.isInteger(number) && Math.abs(number) < 1e6) return String(number);
  return String(Number(number.toPrecision(4)));
}

function plural(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

// --- filters

function refilter() {
  state.passing = 0;
  for (let row = 0; row < count; row++) {
    let passes = 1;
    for (const [index, [low, high]] of filters) {
      const place = axes[index].places[row];
      if (place === null || place < low || place > high) passes = 0;
    }
    state.passes[row] = passes;
    state.passing += passes;
  }
  filtered = true;
  redraw();
}

// --- what is pointed at

const hint = element("div", { class: "hint", role: "status", hidden: "" });

function point(row, x, y) {
  if (row !== state.row) {
    state.row = row;
    hint.hidden = row === null || x === undefined;
    if (!hint.hidden) hint.replaceChildren(...described(row));
    for (const plot of plots) plot.overlay();
    for (const line of document.querySelectorAll("tr.pointed")) line.classList.remove("pointed");
    if (row !== null) document.getElementById(`trial-${row}`)?.classList.add("pointed");
  }
  if (hint.hidden || x === undefined) return;
  const left = x + 16 + hint.offsetWidth > innerWidth ? Math.max(4, x - 16 - hint.offsetWidth) : x + 16;
  const top = Math.max(4, Math.min(y + 16, innerHeight - hint.offsetHeight - 4));
  hint.style.transform = `translate(${left}px, ${top}px)`;
}

function described(row) {
  const lines = [element("strong", {}, `trial ${trials.number[row]}`), ` ${trials.status[row]}`];
  const table = element("dl");
  const add = (name, text) => table.append(element("dt", {}, name), element("dd", {}, text));
  if (trials.text[row] !== null) add(objective.name, trials.text[row]);
  for (const axis of data.axes) if (axis.values[row] !== null) add(axis.name, shown(axis, row));
  if (trials.run[row]) add("run", trials.run[row]);
  if (trials.error[row]) add("error", trials.error[row]);
  return [...lines, table];
}

// --- colours

let ink = {};

function recolour() {
  const chosen = darkScheme.matches ? data.colours.dark : data.colours.light;
  const style = document.documentElement.style;
  for (const name of ["point", "best", "target", "failed"]) style.setProperty(`--${name}`, chosen[name]);
  style.setProperty("--ramp", `linear-gradient(to right, ${chosen.ramp.join(", ")})`);
  const read = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  ink = { ...chosen, text: read("--text"), quiet: read("--quiet"), rule: read("--rule"), page: read("--page") };
}

const SHADES = 32;

function shade(share) {
  const at = (Math.min(SHADES - 1, Math.floor(share * SHADES)) / (SHADES - 1)) * (ink.ramp.length - 1);
  const [below, above] = [ink.ramp[Math.floor(at)], ink.ramp[Math.ceil(at)]];
  const mixed = [1, 3, 5].map((from) => {
    const [a, b] = [below, above].map((colour) => parseInt(colour.slice(from, from + 2), 16));
    return Math.round(a + (b - a) * (at % 1));
  });
  return `rgb(${mixed.join(" ")})`;
}

function goodness(row) {
  const place = trials.place[row];
  return place === null ? null : maximises ? place : 1 - place;
}

function lateness(row) {
  return count > 1 ? row / (count - 1) : 1;
}

function isBeyond(row) {
  const value = trials.value[row];
  return value !== null && (value < data.scale.low || value > data.scale.high);
}

// --- canvases

const FONT = "12px system-ui, sans-serif";

class Plot {
  // Two canvases on each other: the upper one has only what is pointed at, so that pointing draws nothing else again.
  constructor(label, view) {
    this.view = view;
    this.base = element("canvas", { role: "img", "aria-label": label });
    this.top = element("canvas", { "aria-hidden": "true" });
    this.box = element("div", { class: "plot" }, this.base, this.top);
    this.frame = element("div", { class: "scroll", tabindex: view.wide ? "0" : null }, this.box);
    if (view.wide) this.frame.setAttribute("aria-label", label);
    const find = (event) => {
      const bounds = this.box.getBoundingClientRect();
      point(view.pick(event.clientX - bounds.left, event.clientY - bounds.top), event.clientX, event.clientY);
    };
    this.box.addEventListener("pointermove", find);
    this.box.addEventListener("pointerdown", find);
    this.box.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch") point(null); // a finger leaves with every tap
    });
    let width = -1; // that of the last drawing: a new height is no reason to draw again
    new ResizeObserver(() => {
      if (this.frame.clientWidth !== width) requestAnimationFrame(() => this.draw());
      width = this.frame.clientWidth;
    }).observe(this.frame);
    plots.push(this);
  }

  draw() {
    const { width, height } = this.view.layout(this.frame.clientWidth);
    this.box.style.width = `${width}px`;
    this.box.style.height = `${height}px`;
    const sharp = Math.min(devicePixelRatio || 1, 16384 / width, 16384 / height);
    for (const canvas of [this.base, this.top]) {
      canvas.width = Math.round(width * sharp);
      canvas.height = Math.round(height * sharp);
      const context = canvas.getContext("2d");
      context.scale(sharp, sharp);
      context.font = FONT;
    }
    this.view.draw(this.base.getContext("2d"), width, height);
    this.overlay();
  }

  overlay() {
    const context = this.top.getContext("2d");
    context.clearRect(0, 0, this.top.width, this.top.height);
    this.view.mark(context);
  }
}

let asked = 0;
let filtered = false;

// Draws everything again, once a frame however often it is asked for.
function redraw() {
  cancelAnimationFrame(asked);
  asked = requestAnimationFrame(() => {
    if (filtered) listeners.forEach((listener) => listener());
    filtered = false;
    plots.forEach((plot) => plot.draw());
  });
}

function cut(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  const letters = [...text];
  for (let kept = Math.min(letters.length - 1, Math.floor(width / 3)); kept > 1; kept--) {
    const start = Math.ceil(kept / 2);
    const short = `${letters.slice(0, start).join("")}…${letters.slice(letters.length - kept + start).join("")}`;
    if (context.measureText(short).width <= width) return short;
  }
  return "…";
}

function line(context, x0, y0, x1, y1, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function text(context, words, x, y, width, align = "left", colour = ink.quiet) {
  context.fillStyle = colour;
  context.textAlign = align;
  context.fillText(cut(context, words, width), x, y);
}

// Which ticks of an axis are written, so that they don't touch.
function spaced(axis, length, gap) {
  let last = -Infinity;
  const ticks = axis.ticks.map(([place], index) => [place, axis.labels[index]]);
  return ticks.filter(([place]) => {
    if (place * length - last < gap) return false;
    last = place * length;
    return true;
  });
}

// A disc; a triangle that points beyond the axis for a value that is further out; a ring for a trial that was pruned.
function dot(context, x, y, row, colour, size) {
  context.fillStyle = context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.beginPath();
  if (isBeyond(row)) {
    const up = trials.value[row] > data.scale.high ? -1 : 1;
    context.moveTo(x, y + up * 1.6 * size);
    context.lineTo(x - 1.4 * size, y - up * size);
    context.lineTo(x + 1.4 * size, y - up * size);
    context.closePath();
  } else {
    context.arc(x, y, size, 0, 7);
  }
  if (trials.status[row] === "finished") context.fill();
  else context.stroke();
}

function ring(context, x, y) {
  context.strokeStyle = ink.text;
  context.lineWidth = 2;
  context.beginPath();
  context.arc(x, y, 8, 0, 7);
  context.stroke();
}

// The trial whose mark is next to a spot, at most 16 pixels away.
function nearest(x, y, at) {
  let found = null;
  let least = 16 * 16;
  for (let row = 0; row < count; row++) {
    const spot = at(row);
    if (!spot) continue;
    const distance = (spot[0] - x) ** 2 + (spot[1] - y) ** 2;
    if (distance <= least) [found, least] = [row, distance];
  }
  return found;
}
