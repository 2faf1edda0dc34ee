// esbuild takes style sheets into page.css.
declare module "*.css";
