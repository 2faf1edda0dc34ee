// Parallel coordinates: an axis a parameter, the objective last, a line a trial. Dragging along an axis filters.

const MARGIN = 150; // to the right of the objective's axis is room for its name

const parallel = {
  wide: true,
  layout(width) {
    const gaps = axes.length - 1;
    this.gap = Math.max(96, (width - MARGIN) / gaps);
    this.width = Math.max(width, MARGIN + gaps * this.gap);
    this.height = 360;
    Object.assign(this, { left: 20, upper: 48, lower: this.height - 22 });
    axes.forEach((_, index) => this.handles[index].place(this.x(index), this.upper, this.lower - this.upper));
    return this;
  },
  x(index) {
    return this.left + index * this.gap;
  },
  y(place) {
    return this.lower - place * (this.lower - this.upper);
  },
  draw(context) {
    if (count <= 3000) this.lines(context, (row) => !state.passes[row], () => ink.rule, 0.6);
    const strength = state.passing > 2000 ? 0.15 : state.passing > 300 ? 0.35 : 0.75;
    this.lines(context, (row) => state.passes[row] && goodness(row) === null, () => ink.quiet, strength / 2);
    this.lines(context, (row) => state.passes[row] && goodness(row) !== null, shade, strength);
    axes.forEach((axis, index) => this.axis(context, axis, this.x(index), index));
  },
  lines(context, wanted, colour, strength) {
    const shades = Array.from({ length: SHADES }, () => []);
    for (let row = 0; row < count; row++)
      if (wanted(row)) shades[Math.min(SHADES - 1, Math.floor((goodness(row) ?? 0) * SHADES))].push(row);
    context.globalAlpha = strength;
    context.lineWidth = 1.25;
    shades.forEach((rows, index) => {
      if (!rows.length) return;
      context.strokeStyle = colour(index / (SHADES - 1));
      context.beginPath();
      for (const row of rows) this.trace(context, row);
      context.stroke();
    });
    context.globalAlpha = 1;
  },
  trace(context, row) {
    let drawing = false;
    axes.forEach((axis, index) => {
      const place = axis.drawn[row];
      if (place === null) drawing = false;
      else if (drawing) context.lineTo(this.x(index), this.y(place));
      else context.moveTo(this.x(index), this.y(place));
      drawing = place !== null;
    });
  },
  axis(context, axis, x, index) {
    line(context, x, this.upper, x, this.lower, ink.text);
    const room = index === axes.length - 1 ? MARGIN - 30 : this.gap - 22;
    context.textBaseline = "bottom";
    const emphasised = index === axes.length - 1 || axis.name === state.axis;
    context.font = emphasised ? `bold ${FONT}` : FONT;
    text(context, axis.name, index ? x - 10 : x, this.upper - 16, room + (index ? 8 : 0), "left", ink.text);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    for (const [place, label] of spaced(axis, this.lower - this.upper, 14)) {
      line(context, x, this.y(place), x + 4, this.y(place), ink.text);
      const words = cut(context, label, room);
      context.textAlign = "left";
      context.strokeStyle = ink.page;
      context.lineWidth = 4;
      context.globalAlpha = 0.85;
      context.strokeText(words, x + 7, this.y(place));
      context.globalAlpha = 1;
      context.fillStyle = ink.text;
      context.fillText(words, x + 7, this.y(place));
    }
    context.font = FONT;
  },
  pick(x, y) {
    const index = Math.max(0, Math.min(axes.length - 2, Math.floor((x - this.left) / this.gap)));
    const share = (x - this.x(index)) / this.gap;
    let found = null;
    let least = 8;
    for (let row = 0; row < count; row++) {
      const [from, to] = [axes[index].drawn[row], axes[index + 1].drawn[row]];
      if (!state.passes[row] || from === null || to === null) continue;
      const distance = Math.abs(this.y(from + (to - from) * share) - y);
      if (distance < least) [found, least] = [row, distance];
    }
    return found;
  },
  mark(context) {
    if (state.row === null) return;
    context.lineWidth = 3;
    context.strokeStyle = ink.text;
    context.beginPath();
    this.trace(context, state.row);
    context.stroke();
  },
};

// The strip over an axis on which a range is dragged, moved, or set by keys.
class Handle {
  constructor(index) {
    this.index = index;
    this.range = element("div", { class: "range", hidden: "" });
    this.strip = element(
      "div",
      {
        class: "handle",
        tabindex: "0",
        role: "group",
        title: axes[index].name,
        onpointerdown: (event) => this.begin(event),
        onpointermove: (event) => this.drag(event),
        onpointerup: (event) => this.end(event),
        onpointercancel: () => (this.held = null),
        onkeydown: (event) => this.key(event),
      },
      this.range,
    );
    this.held = null;
    this.show();
  }

  place(x, y, height) {
    this.height = height;
    Object.assign(this.strip.style, { left: `${x - 12}px`, top: `${y - 8}px`, height: `${height + 16}px` });
  }

  at(event) {
    const place = 1 - (event.clientY - this.strip.getBoundingClientRect().top - 8) / this.height;
    return Math.max(0, Math.min(1, place));
  }

  begin(event) {
    const place = this.at(event);
    const old = filters.get(this.index);
    this.held = { place, old: old && place >= old[0] && place <= old[1] ? old : null, moved: false };
    this.strip.setPointerCapture(event.pointerId);
    event.stopPropagation();
    point(null);
  }

  drag(event) {
    if (!this.held) return;
    event.stopPropagation();
    const place = this.at(event);
    const { place: from, old } = this.held;
    this.held.moved ||= Math.abs(place - from) * this.height > 3;
    if (!this.held.moved) return;
    if (old) this.shift(old, place - from);
    else this.set(Math.min(from, place), Math.max(from, place));
  }

  end() {
    if (this.held && !this.held.moved) this.clear();
    this.held = null;
  }

  shift([low, high], by) {
    const kept = Math.max(-low, Math.min(1 - high, by));
    this.set(low + kept, high + kept);
  }

  key(event) {
    const up = { ArrowUp: 0.05, ArrowDown: -0.05 }[event.key];
    if (event.key === "Escape") this.clear();
    if (!up) return;
    event.preventDefault();
    const [low, high] = filters.get(this.index) ?? (up > 0 ? [0.5, 1] : [0, 0.5]);
    if (!filters.has(this.index)) this.set(low, high);
    else if (event.shiftKey) this.set(low, Math.max(low + 0.02, Math.min(1, high + up)));
    else this.shift([low, high], up);
  }

  set(low, high) {
    filters.set(this.index, [low, high]);
    refilter();
  }

  clear() {
    if (filters.delete(this.index)) refilter();
  }

  show() {
    const range = filters.get(this.index);
    this.range.hidden = !range;
    const name = axes[this.index].name;
    const how = "drag, or press the arrow keys, with shift to widen, escape to clear";
    this.strip.setAttribute("aria-label", `filter by ${name}: ${range ? `${state.passing} trials pass; ` : ""}${how}`);
    if (!range) return;
    this.range.style.top = `calc(8px + (100% - 16px) * ${1 - range[1]})`;
    this.range.style.height = `max(3px, calc((100% - 16px) * ${range[1] - range[0]}))`;
  }
}

function parallelSection() {
  if (axes.length === 1) return section("Parallel coordinates", [CONSTANT]);
  const plot = new Plot(`Parallel coordinates of ${plural(count, "trial")} over ${plural(axes.length - 1, "parameter")}`, parallel);
  parallel.handles = axes.map((_, index) => new Handle(index));
  plot.box.append(...parallel.handles.map((handle) => handle.strip));
  listeners.push(() => parallel.handles.forEach((handle) => handle.show()));
  const note = [ramp("bad", "good"), " Drag along an axis to filter all views; click it to stop."];
  return section("Parallel coordinates", note, plot.frame);
}

function ramp(from, to) {
  return element("span", { class: "key" }, `${from} `, element("i", { class: "ramp" }), ` ${to}`);
}
