// Does to a page in headless Chromium what a person would, one step after another.
//
//   node operate.mjs --url URL --deadline-ms N [--map HOST=IP] [--width W] STEP…
//
// STEP is `type:LABEL:TEXT` into the field of that label, `press:NAME` the first button of that name, `sees:TEXT`
// waits until it is to be read on the page, `picture:FILE` takes one. --map leads a name to an address. Prints the
// page's visible text at the end; exit status 1, with the step that failed and what there was instead, when one could
// not be done before the deadline.

import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: "string" },
    map: { type: "string" },
    width: { type: "string", default: "1280" },
    "deadline-ms": { type: "string", default: "20000" },
  },
});
const deadline = Date.now() + Number(values["deadline-ms"]);
const left = () => ({ timeout: Math.max(1, deadline - Date.now()) });
const args = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
if (values.map) args.push(`--host-resolver-rules=MAP ${values.map.replace("=", " ")}`);

const STEPS = {
  type: (page, words) => {
    const [label, ...text] = words.split(":");
    return page.getByLabel(label).fill(text.join(":"), left());
  },
  press: (page, name) => page.getByRole("button", { name, exact: true }).first().click(left()),
  sees: (page, text) => page.waitForFunction((text) => document.body?.innerText.includes(text), text, left()),
  picture: (page, path) => page.screenshot({ path, fullPage: true }),
};

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args, ...left() });
try {
  const page = await browser.newPage({ viewport: { width: Number(values.width), height: 800 } });
  await page.goto(values.url, { waitUntil: "commit", ...left() });
  for (const step of positionals) {
    const colon = step.indexOf(":");
    try {
      await STEPS[step.slice(0, colon)](page, step.slice(colon + 1));
    } catch (error) {
      console.error(`${step}: ${error.message.split("\n")[0]}`);
      process.exitCode = 1;
      break;
    }
  }
  console.log(await page.evaluate(() => document.body.innerText).catch((error) => error.message));
} finally {
  await browser.close();
}
