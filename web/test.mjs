// Runs the unit tests: `npm test`. Each `*.test.ts` is bundled into a temporary folder and run by node's
// own test runner.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const WEB = path.dirname(fileURLToPath(import.meta.url));
const tests = ["player", "publish", "console", "shared"].flatMap((folder) =>
  readdirSync(path.join(WEB, folder))
    .filter((file) => /\.test\.tsx?$/.test(file))
    .map((file) => path.join(WEB, folder, file)),
);

const outdir = mkdtempSync(path.join(tmpdir(), "sluicegate-web-test-"));
try {
  await esbuild.build({
    entryPoints: tests,
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node18",
    jsx: "automatic",
    jsxImportSource: "preact",
    sourcemap: "inline",
    logLevel: "warning",
  });
  const built = readdirSync(outdir, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".mjs"));
  const run = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...built], { cwd: outdir, stdio: "inherit" });
  process.exitCode = run.status ?? 1;
} finally {
  rmSync(outdir, { recursive: true, force: true });
}
