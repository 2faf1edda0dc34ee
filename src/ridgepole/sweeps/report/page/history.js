// Each trial's objective by its number, and the best so far.

const history = {
  layout(width) {
    this.width = width;
    this.height = Math.max(240, Math.min(380, width * 0.5));
    Object.assign(this, { left: 68, right: width - 16, upper: 16, lower: this.height - 44 });
    return this;
  },
  x(row) {
    const numbers = trials.number;
    const span = numbers[count - 1] - numbers[0];
    return this.left + 10 + (span ? (numbers[row] - numbers[0]) / span : 0.5) * (this.right - this.left - 20);
  },
  y(place) {
    return this.lower - 10 - place * (this.lower - this.upper - 20);
  },
  at(row) {
    if (!state.passes[row]) return null;
    const place = trials.place[row];
    if (place !== null) return [this.x(row), this.y(place)];
    return trials.status[row] === "failed" ? [this.x(row), this.lower] : null;
  },
  pick(x, y) {
    return nearest(x, y, (row) => this.at(row));
  },
  draw(context) {
    context.textBaseline = "middle";
    for (const [place, label] of data.scale.ticks) {
      line(context, this.left, this.y(place), this.right, this.y(place), ink.rule);
      text(context, label, this.left - 8, this.y(place), this.left - 12, "right");
    }
    line(context, this.left, this.lower, this.right, this.lower, ink.quiet);
    context.textBaseline = "top";
    for (const row of this.numbered())
      text(context, String(trials.number[row]), this.x(row), this.lower + 8, 60, "center");
    text(context, "trial", this.right, this.lower + 26, 60, "right");
    if (data.scale.target !== null) {
      context.setLineDash([6, 4]);
      line(context, this.left, this.y(data.scale.target), this.right, this.y(data.scale.target), ink.target);
      context.setLineDash([]);
    }
    this.steps(context);
    const size = count > 1000 ? 2 : count > 200 ? 3 : 4;
    for (let row = 0; row < count; row++) {
      const place = trials.place[row];
      const colour = state.passes[row] ? (trials.status[row] === "finished" ? ink.point : ink.quiet) : ink.rule;
      if (place !== null) dot(context, this.x(row), this.y(place), row, colour, size);
      else if (trials.status[row] === "failed") this.cross(context, row, state.passes[row] ? ink.failed : ink.rule);
    }
  },
  numbered() {
    const stride = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 1e5, 1e6];
    const room = Math.max(2, (this.right - this.left) / 70);
    const by = stride.find((each) => count / each <= room);
    return [...trials.number.keys()].filter((row) => trials.number[row] % by === 0);
  },
  steps(context) {
    context.strokeStyle = ink.best;
    context.lineWidth = 2;
    context.beginPath();
    let before = null;
    for (let row = 0; row < count; row++) {
      const place = trials.best[row];
      if (place === null) continue;
      if (before === null) context.moveTo(this.x(row), this.y(place));
      else context.lineTo(this.x(row), this.y(before));
      context.lineTo(this.x(row), this.y(place));
      before = place;
    }
    context.stroke();
  },
  cross(context, row, colour) {
    const x = this.x(row);
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.beginPath();
    for (const side of [-1, 1]) {
      context.moveTo(x - 4 * side, this.lower - 4);
      context.lineTo(x + 4 * side, this.lower + 4);
    }
    context.stroke();
  },
  mark(context) {
    const spot = state.row === null ? null : this.at(state.row);
    if (spot) ring(context, ...spot);
  },
};

function historySection() {
  const key = (kind, words) => element("span", { class: "key" }, element("i", { class: kind }), words);
  const has = (status) => trials.status.includes(status);
  const keys = [key("disc", `finished`), key("steps", "best so far")];
  if (trials.status.some((each, row) => each !== "finished" && trials.place[row] !== null))
    keys.push(key("ring", "stopped early: the best until then"));
  if (has("failed")) keys.push(key("cross", "failed"));
  if (data.metric.target !== null) {
    const where = data.scale.target === null ? ", outside of this picture" : "";
    keys.push(key("dashes", `target ${brief(data.metric.target)}${where}`));
  }
  const beyond = trials.value.filter((_, row) => isBeyond(row)).length;
  if (beyond) keys.push(key("triangle", `further out: ${plural(beyond, "trial")}`));
  const plot = new Plot(`${objective.name} of ${plural(count, "trial")} by number; the table below has them all`, history);
  return section(`History of ${objective.name}`, keys, plot.frame);
}
