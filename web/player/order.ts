/**
 * By which way a stream is played: WebRTC first, which is a fraction of a second behind, then HLS, which
 * passes everywhere. `playOrder=webrtc,hls` in the page's address is AMS's parameter for it.
 */

export type Way = "webrtc" | "hls";

const USUAL: readonly Way[] = ["webrtc", "hls"];
const NAMES: Record<Way, string> = { webrtc: "WebRTC", hls: "HLS" };

/** The ways that the page's address asks for, in its order; both when it names none that there is. */
export function playOrder(href: string): Way[] {
  const asked = (new URL(href).searchParams.get("playOrder") ?? "").split(",");
  const ways = asked.map((way) => way.trim()).filter((way): way is Way => USUAL.includes(way as Way));
  return ways.length > 0 ? [...new Set(ways)] : [...USUAL];
}

export class Order {
  private at = 0;
  private readonly ways: readonly Way[];
  /** Which way would have been better, and why it is not gone; empty when there is none. */
  why = "";

  /** `cannot` says why this browser cannot go a way; `null` where it can. */
  constructor(wanted: readonly Way[], cannot: Readonly<Record<Way, string | null>>) {
    this.ways = wanted.filter((way) => cannot[way] === null);
    const best = wanted[0];
    const why = best === undefined ? null : cannot[best];
    if (best !== undefined && why !== null) this.why = `${NAMES[best]}: ${why}`;
  }

  /** `null` when there is none. */
  get way(): Way | null {
    return this.ways[this.at] ?? null;
  }

  /** The present way does not work, for the reason `why`. Whether there is another. */
  fallBack(why: string): boolean {
    const way = this.ways[this.at];
    if (way === undefined || this.at + 1 >= this.ways.length) return false;
    this.at += 1;
    this.why = `${NAMES[way]}: ${why}`;
    return true;
  }
}
