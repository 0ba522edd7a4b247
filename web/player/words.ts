/** The player's states in plain words. */

import type { State } from "./session";

export interface Words {
  /** A word or two, for the status line. */
  short: string;
  /** A sentence over the picture; empty when there is nothing to add to the picture. */
  notice: string;
}

export function words(state: State, stream: string): Words {
  switch (state) {
    case "connecting":
      return { short: "Connecting", notice: `Connecting to «${stream}»…` };
    case "live":
      return { short: "Live", notice: "" };
    case "paused":
      return { short: "Paused", notice: "" };
    case "stalled":
      return { short: "Stalled", notice: "The stream has stalled. It goes on as soon as more of it arrives." };
    case "waiting":
      return { short: "Waiting", notice: `«${stream}» is not live. Waiting for it to start…` };
    case "ended":
      return { short: "Ended", notice: `«${stream}» has ended. If it comes back, it plays here by itself.` };
    case "not-found":
      return notFound(stream);
    case "refused":
      return { short: "Not allowed", notice: `You may not watch «${stream}»: the link's token is missing, wrong or too old.` };
    case "unavailable":
      return { short: "Unavailable", notice: `The server cannot deliver «${stream}» at the moment. Trying again…` };
    case "offline":
      return { short: "Network lost", notice: "The network is lost. Trying again…" };
  }
}

function notFound(stream: string): Words {
  const notice =
    stream === ""
      ? "This address names no stream. Add ?id= and the stream's name to it."
      : `No stream can be called «${stream}». Check the address.`;
  return { short: "Not found", notice };
}
