/** The publish page's states in plain words. */

import type { State } from "./session";

export interface Words {
  /** A word or two, for the status line. */
  short: string;
  /** A sentence over the preview; empty when the picture says it all. */
  notice: string;
}

export function words(state: State, stream: string, reason: string): Words {
  switch (state) {
    case "idle":
      return { short: "Not started", notice: "Choose what to publish." };
    case "asking":
      return { short: "Asking", notice: "The browser asks whether this page may use it. Allow it there." };
    case "ready":
      return { short: "Ready", notice: "" };
    case "connecting":
      return { short: "Connecting", notice: "" };
    case "live":
      return { short: "Live", notice: "" };
    case "reconnecting":
      return { short: "Reconnecting", notice: "The connection is lost. Connecting again…" };
    case "ended":
      return { short: "Ended", notice: "" };
    case "no-name":
      return { short: "No name", notice: "Give the stream a name." };
    case "insecure":
      return { short: "Not secure", notice: "Browsers give a camera or a screen to pages over HTTPS only. Open this page by its https:// address." };
    case "unsupported":
      return { short: "Not supported", notice: "This browser cannot publish by WebRTC. Try a newer one." };
    case "blocked":
      return { short: "Not allowed", notice: "The browser did not let this page have it. Change that in the address bar, and choose again." };
    case "no-device":
      return { short: "Nothing found", notice: "There is no such camera, screen or microphone." };
    case "device-busy":
      return { short: "In use", notice: "Another program uses the camera or the microphone. Close it, and choose again." };
    case "refused":
      return { short: "Not allowed", notice: `You may not publish «${stream}»: the link's token is missing, wrong or too old.` };
    case "taken":
      return { short: "Name taken", notice: `Somebody else is publishing «${stream}» now.` };
    case "bad-name":
      return { short: "Bad name", notice: `No stream can be called «${stream}». Use letters, digits, '.', '-' and '_'.` };
    case "full":
      return { short: "Unavailable", notice: "The servers have no room for another stream at the moment. Try again later." };
    case "not-accepted":
      return { short: "Failed", notice: reason === "" ? "No connection came about. This network may not let WebRTC through." : `The server did not take it: ${reason}.` };
  }
}
