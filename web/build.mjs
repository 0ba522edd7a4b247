// Builds the player page, the publish page and the console: `node build.mjs [--out DIR]`, DIR being `dist` unless named.
//
// DIR/player, DIR/publish and DIR/console receive each page and its assets; DIR/manifest.tsv lists every file, one a
// line: page, path, content type, entity tag, whether the name carries a hash of the content, and whether
// DIR/compressed has it by gzip and by Brotli.

import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { brotliCompressSync, gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

const WEB = path.dirname(fileURLToPath(import.meta.url));

/** Each page: its template, and the entry points whose built names go into the template. */
const PAGES = [
  { page: "player", html: "play.html", entries: { script: "main.ts", style: "play.css", icon: "../shared/icon.svg" } },
  { page: "publish", html: "publish.html", entries: { script: "main.ts", style: "publish.css", icon: "../shared/icon.svg" } },
  { page: "console", html: "index.html", entries: { script: "main.tsx", style: "console.css", icon: "../shared/icon.svg" } },
];

const CONTENT_TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
};

const { values } = parseArgs({ options: { out: { type: "string", default: path.join(WEB, "dist") } } });
const out = path.resolve(values.out);

await rm(out, { recursive: true, force: true });
const lines = [];
for (const page of PAGES) {
  await buildPage(page);
  lines.push(...(await describe(page.page)));
}
await writeFile(path.join(out, "manifest.tsv"), lines.map((line) => `${line}\n`).join(""));

async function buildPage({ page, html, entries }) {
  const result = await esbuild.build({
    absWorkingDir: WEB,
    entryPoints: Object.values(entries).map((entry) => ({
      in: path.posix.join(page, entry),
      out: path.basename(entry, path.extname(entry)),
    })),
    outdir: path.join(out, page, "assets"),
    entryNames: "[name]-[hash]",
    bundle: true,
    format: "esm",
    target: ["es2020"],
    jsx: "automatic",
    jsxImportSource: "preact",
    loader: { ".svg": "copy" },
    minify: true,
    legalComments: "none",
    metafile: true,
    logLevel: "warning",
  });
  let text = await readFile(path.join(WEB, page, html), "utf8");
  for (const [slot, entry] of Object.entries(entries)) {
    text = text.replaceAll(`{{${slot}}}`, `assets/${builtName(result.metafile, page, entry)}`);
  }
  if (text.includes("{{")) throw new Error(`${page}/${html} has a slot that no entry point fills`);
  await writeFile(path.join(out, page, html), text);
  await writeLicences(page, result.metafile);
}

/** The hashed file name that one entry point was built to. */
function builtName(metafile, page, entry) {
  const wanted = path.posix.join(page, entry);
  const found = Object.entries(metafile.outputs).find(
    ([, output]) => output.entryPoint === wanted || (!output.entryPoint && wanted in output.inputs),
  );
  if (!found) throw new Error(`nothing was built from ${wanted}`);
  return path.basename(found[0]);
}

/** The licences of the packages that went into a page's script, which ask to travel with it. */
async function writeLicences(page, metafile) {
  const packages = new Set();
  for (const input of Object.keys(metafile.inputs)) {
    const name = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input)?.[1];
    if (name) packages.add(name);
  }
  const texts = [];
  for (const name of [...packages].sort()) {
    const folder = path.join(WEB, "node_modules", name);
    const { version, license } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
    const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
    texts.push(`${name} ${version} (${license})\n\n${file ? await readFile(path.join(folder, file), "utf8") : ""}`);
  }
  await mkdir(path.join(out, page, "assets"), { recursive: true });
  await writeFile(path.join(out, page, "assets", "licences.txt"), texts.join("\n\n"));
}

/** Writes a file by gzip and by Brotli, unless that is no shorter: whether it did. */
async function compress(page, file, body) {
  const coded = { gz: gzipSync(body, { level: 9 }), br: brotliCompressSync(body) };
  if (Object.values(coded).some((short) => short.length >= body.length)) return false;
  const place = path.join(out, "compressed", page, file);
  await mkdir(path.dirname(place), { recursive: true });
  for (const [name, short] of Object.entries(coded)) await writeFile(`${place}.${name}`, short);
  return true;
}

/** The manifest's lines for one page, in the order of their paths. */
async function describe(page) {
  const files = [...(await readdir(path.join(out, page))), ...(await readdir(path.join(out, page, "assets"))).map((f) => `assets/${f}`)]
    .filter((file) => file !== "assets")
    .sort();
  return Promise.all(
    files.map(async (file) => {
      const body = await readFile(path.join(out, page, file));
      const etag = createHash("sha256").update(body).digest("hex").slice(0, 16);
      const immutable = /-[A-Z0-9]{8}\.\w+$/.test(file);
      return [page, file, CONTENT_TYPES[path.extname(file)], etag, immutable, await compress(page, file, body)].join("\t");
    }),
  );
}
