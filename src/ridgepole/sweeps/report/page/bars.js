// How much each parameter matters.

function barsSection() {
  const { shares, note } = data.importances;
  const list = element("ol", { class: "bars" });
  const largest = shares.length ? shares[0][1] : 1;
  for (const [name, share] of shares) {
    const bar = element("span", { class: "bar" });
    bar.style.width = `${(share / largest) * 100}%`;
    const emphasise = (axis) => () => {
      state.axis = axis;
      redraw();
    };
    list.append(
      element(
        "li",
        { onpointerenter: emphasise(name), onpointerleave: emphasise(null), title: name },
        element("span", { class: "name" }, name),
        element("span", { class: "track" }, bar),
        element("span", { class: "share" }, `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %`),
      ),
    );
  }
  return section("Importances", [note], ...(shares.length ? [list] : []));
}
