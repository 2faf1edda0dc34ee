// The page: what the sweep has come to, then the views.

function summary() {
  const counts = Object.entries(data.counts).map(([status, number]) => `${number.toLocaleString("en")} ${status}`);
  const parts = [`sweep ${data.id}`, data.status, `${count.toLocaleString("en")} of ${plural(data.limit, "trial")}`];
  const made = element("header", {}, element("h1", {}, data.title));
  made.append(element("p", {}, parts.join(" · "), counts.length ? ` (${counts.join(", ")})` : ""));
  if (data.reason) made.append(element("p", {}, `ended early: ${data.reason}`));
  const row = trials.number.indexOf(data.best);
  const goal = `${data.metric.name}, to be ${data.metric.goal}d`;
  if (row < 0) made.append(element("p", {}, `${goal}: no trial has finished with a value yet`));
  else made.append(element("p", {}, `${goal}: best `, element("strong", {}, trials.text[row]), `, trial ${data.best}`));
  if (data.constants.length) {
    const list = data.constants.map(([name, value]) => element("li", {}, element("bdi", {}, `${name} = ${value}`)));
    made.append(element("details", {}, element("summary", {}, plural(list.length, "constant")), element("ul", {}, ...list)));
  }
  return made;
}

function reproduction() {
  const code = element("code", {}, data.command);
  const button = element("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    const copied = await copy(data.command, code);
    button.textContent = copied ? "Copied" : "Press Ctrl-C";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  const box = element("div", { class: "command" }, element("pre", { tabindex: "0" }, code), button);
  const isCommand = data.command.startsWith("ridgepole ");
  return section("The best trial again", isCommand ? null : ["Its parameters:"], box);
}

async function copy(words, shown) {
  try {
    await navigator.clipboard.writeText(words);
    return true;
  } catch {
    getSelection().selectAllChildren(shown); // a page from a file may not have the clipboard
    return document.execCommand("copy");
  }
}

recolour();
const report = document.getElementById("report");
report.append(summary());
if (data.command) report.append(reproduction());
if (count) report.append(historySection(), parallelSection(), barsSection(), slicesSection(), tableSection());
else report.append(section("Trials", ["No trial has begun yet."]));
document.body.append(hint);
darkScheme.addEventListener("change", () => {
  recolour();
  redraw();
});
addEventListener("scroll", () => point(null), { passive: true });
addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".plot")) point(null);
});
