// The objective over each parameter, one small panel each.

const slices = {
  layout(width) {
    const panels = data.axes.length;
    this.columns = Math.max(1, Math.min(panels, Math.floor((width - 60) / 220)));
    this.left = 60;
    this.panel = (width - this.left) / this.columns;
    this.tall = 210;
    this.width = width;
    this.height = Math.max(1, Math.ceil(panels / this.columns)) * this.tall;
    return this;
  },
  bounds(index) {
    const left = this.left + (index % this.columns) * this.panel;
    const top = Math.floor(index / this.columns) * this.tall;
    return { left, right: left + this.panel - 16, top: top + 26, bottom: top + this.tall - 34 };
  },
  at(index, row) {
    const axis = data.axes[index];
    const place = axis.places[row];
    const height = trials.place[row];
    if (place === null || height === null) return null;
    const { left, right, top, bottom } = this.bounds(index);
    const inset = axis.kind === "choice" ? Math.min(40, (right - left) / 4) : 10;
    const aside = (axis.drawn[row] - place) * Math.max(1, 5 * axis.step); // more room than beside an axis
    const reach = right - left - 2 * inset;
    return [left + inset + place * reach + Math.max(-inset, Math.min(inset, aside * reach)), bottom - 8 - height * (bottom - top - 16)];
  },
  draw(context) {
    data.axes.forEach((axis, index) => this.frame(context, axis, index));
    const size = count > 1000 ? 1.5 : count > 200 ? 2.5 : 3.5;
    data.axes.forEach((_, index) => {
      for (const passes of [0, 1])
        for (let row = 0; row < count; row++) {
          if (state.passes[row] !== passes) continue;
          const spot = this.at(index, row);
          if (spot) dot(context, ...spot, row, passes ? shade(lateness(row)) : ink.rule, size);
        }
    });
  },
  frame(context, axis, index) {
    const { left, right, top, bottom } = this.bounds(index);
    context.textBaseline = "middle";
    for (const [place, label] of spaced(objective, bottom - top - 16, 14)) {
      const y = bottom - 8 - place * (bottom - top - 16);
      line(context, left, y, right, y, ink.rule);
      if (index % this.columns === 0) text(context, label, left - 8, y, this.left - 10, "right");
    }
    line(context, left, bottom, right, bottom, ink.quiet);
    context.textBaseline = "alphabetic";
    context.font = axis.name === state.axis ? `bold ${FONT}` : FONT;
    text(context, axis.name, left, top - 10, right - left, "left", ink.text);
    context.font = FONT;
    context.textBaseline = "top";
    const inset = axis.kind === "choice" ? Math.min(40, (right - left) / 4) : 10;
    const length = right - left - 2 * inset;
    const written = spaced(axis, length, axis.kind === "choice" ? 44 : 40);
    const room = written.length > 1 ? Math.max(36, (written[1][0] - written[0][0]) * length - 6) : right - left;
    for (const [place, label] of written)
      text(context, label, left + inset + place * length, bottom + 6, Math.min(room, 2 * inset + 40), "center");
  },
  pick(x, y) {
    const index = Math.floor(y / this.tall) * this.columns + Math.floor((x - this.left) / this.panel);
    if (x < this.left || index >= data.axes.length) return null;
    return nearest(x, y, (row) => (state.passes[row] ? this.at(index, row) : null));
  },
  mark(context) {
    if (state.row === null || !state.passes[state.row]) return;
    data.axes.forEach((_, index) => {
      const spot = this.at(index, state.row);
      if (spot) ring(context, ...spot);
    });
  },
};

function slicesSection() {
  if (!data.axes.length) return section(`${objective.name} over each parameter`, [CONSTANT]);
  const plot = new Plot(`${objective.name} over each of ${plural(data.axes.length, "parameter")}`, slices);
  return section(`${objective.name} over each parameter`, [ramp("first trial", "last")], plot.frame);
}
