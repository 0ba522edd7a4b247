// Checks the dashboard: valid JSON, every panel has a description and its own id, and promtool accepts every
// expression. `node check.mjs PROMTOOL`, run in grafana/.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const [promtool] = process.argv.slice(2);
if (promtool === undefined) throw new Error("usage: node check.mjs PROMTOOL");

const { panels } = JSON.parse(readFileSync("dashboards/sluicegate.json", "utf8"));
const drawn = panels.filter((panel) => panel.type !== "row");
const complaints = drawn.filter((panel) => !panel.description).map((panel) => `${panel.title} has no description`);
if (new Set(panels.map((panel) => panel.id)).size !== panels.length) complaints.push("two panels share an id");

// A recording rule takes any expression. Grafana's variables are none of PromQL's.
const rules = drawn.flatMap((panel) =>
  panel.targets.map((target, i) => ({
    record: `panel_${panel.id}_${i}`,
    expr: target.expr.replaceAll("$__rate_interval", "1m").replaceAll("$instance", ".*"),
  })),
);
const folder = mkdtempSync(path.join(tmpdir(), "sluicegate-dashboard-"));
try {
  const file = path.join(folder, "rules.json");
  // JSON is YAML.
  writeFileSync(file, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
  execFileSync(promtool, ["check", "rules", file], { stdio: ["ignore", "ignore", "inherit"] });
} catch {
  complaints.push("promtool refuses an expression");
} finally {
  rmSync(folder, { recursive: true });
}
for (const complaint of complaints) console.error(complaint);
console.log(`${drawn.length} panels, ${rules.length} expressions, ${complaints.length} complaints`);
process.exitCode = complaints.length === 0 ? 0 : 1;
