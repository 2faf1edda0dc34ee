// Bundle the page: node build.mjs OUTPUT. Called by build_page.py, which sees to the packages.
import { copyFile } from "node:fs/promises";
import { build } from "esbuild";

const [output] = process.argv.slice(2);
if (!output) throw new Error("usage: node build.mjs OUTPUT");
await build({
  entryPoints: [{ in: "src/main.tsx", out: "assets/app" }],
  outdir: output,
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "eof", // the licences of Preact and uPlot stay in the file
  logLevel: "warning",
});
await copyFile("src/index.html", `${output}/index.html`);
