// Opens a publish page in headless Chromium, gives it a camera that Chromium makes up, and waits until it is in the
// wanted state. For any state beyond "ready" it is told to go live.
//
//   node publish-page.mjs --url URL --until STATE --deadline-ms N [--screenshot FILE] [--width W] [--insecure] [--stay]
//
// Reports and ends as play.mjs does.

import { main } from "./chromium.mjs";

/** Runs in the page: what it shows now. */
function look() {
  const publisher = window.sluicegatePublisher;
  return {
    openedAt: performance.timeOrigin,
    state: document.querySelector("[data-state]")?.dataset.state ?? null,
    reason: publisher?.reason ?? null,
    reconnects: publisher?.reconnects ?? null,
    figures: publisher?.figures ?? null,
    notice: document.querySelector("#notice-text")?.textContent ?? null,
  };
}

async function act(page, wanted, timeout) {
  if (wanted === "idle") return;
  await page.click("#use-camera", { timeout });
  if (wanted === "ready") return;
  await page.click("#go:enabled", { timeout });
}

const arrived = (seen, wanted) => seen.state === wanted && (wanted !== "live" || seen.figures?.bitrateBps > 0);

await main({ act, look, arrived });
