// The trials that pass the filters, in a table that sorts.

const PAGE = 100;
const columns = [
  { name: "trial", number: true, key: (row) => trials.number[row], text: (row) => trials.number[row] },
  { name: "status", key: (row) => trials.status[row], text: (row) => trials.status[row] },
  { name: objective.name, number: true, key: (row) => trials.value[row], text: (row) => trials.text[row] ?? "" },
  ...data.axes.map((axis) => ({
    name: axis.name,
    number: axis.kind !== "choice",
    key: (row) => axis.values[row],
    text: (row) => shown(axis, row),
  })),
  { name: "seconds", number: true, key: (row) => trials.seconds[row], text: (row) => trials.seconds[row]?.toFixed(1) ?? "" },
  { name: "run", key: (row) => trials.run[row], text: (row) => trials.run[row] ?? "" },
];
if (trials.error.some(Boolean))
  columns.push({ name: "error", key: (row) => trials.error[row] || null, text: (row) => trials.error[row] });

const table = {
  by: 0,
  down: false,
  limit: PAGE,
  body: element("tbody"),
  told: element("p", { class: "told", role: "status" }),
  more: element("button", { type: "button", onclick: () => table.extend() }),

  rows() {
    const { key } = columns[this.by];
    const sign = this.down ? -1 : 1;
    const kept = [...trials.number.keys()].filter((row) => state.passes[row]);
    return kept.sort((a, b) => {
      const [one, other] = [key(a), key(b)];
      if (one === null || other === null) return (one === null) - (other === null) || a - b; // the empty ones last
      return sign * (one < other ? -1 : one > other ? 1 : 0) || a - b;
    });
  },

  sort(index) {
    this.down = this.by === index ? !this.down : index === 2 && maximises;
    this.by = index;
    this.limit = PAGE;
    this.fill();
  },

  extend() {
    this.limit += PAGE;
    this.fill();
  },

  fill() {
    const rows = this.rows();
    this.heads.forEach((head, index) => {
      const how = index === this.by ? (this.down ? "descending" : "ascending") : "none";
      head.setAttribute("aria-sort", how);
    });
    this.body.replaceChildren(...rows.slice(0, this.limit).map((row) => this.line(row)));
    const left = rows.length - this.limit;
    this.more.hidden = left <= 0;
    this.more.textContent = `Show ${Math.min(PAGE, left)} more of ${left.toLocaleString("en")}`;
    const by = [...filters.keys()].map((index) => axes[index].name).join(", ");
    const all = plural(count, "trial");
    this.told.replaceChildren(filters.size ? `${rows.length.toLocaleString("en")} of ${all}, filtered by ${by}` : all);
    if (filters.size) this.told.append(element("button", { type: "button", onclick: clearFilters }, "Clear filters"));
  },

  line(row) {
    const cells = columns.map((column) =>
      element("td", { class: column.number ? "number" : null }, element("bdi", {}, String(column.text(row)))),
    );
    const made = element("tr", { id: `trial-${row}`, onpointerenter: () => point(row), onpointerleave: () => point(null) });
    if (trials.number[row] === data.best) made.classList.add("best");
    made.append(...cells);
    return made;
  },
};

function clearFilters() {
  filters.clear();
  refilter();
}

function tableSection() {
  table.heads = columns.map((column, index) =>
    element(
      "th",
      { scope: "col", class: column.number ? "number" : null },
      element("button", { type: "button", title: column.name, onclick: () => table.sort(index) }, element("bdi", {}, column.name)),
    ),
  );
  listeners.push(() => table.fill());
  table.fill();
  const head = element("thead", {}, element("tr", {}, ...table.heads));
  const frame = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "trials" });
  frame.append(element("table", {}, head, table.body));
  return section("Trials", null, table.told, frame, table.more);
}
