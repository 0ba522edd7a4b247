/** Whether a stream can be played just now, by looking at its playlists. */

/** What stands in the way of playing a stream; `broken` is the player's own failure. */
export type Cause = "absent" | "ended" | "refused" | "bad-name" | "unavailable" | "offline" | "broken";
export type Probe = "live" | Exclude<Cause, "broken">;

const PROBE_TIMEOUT_MS = 5000;

type Fetch = (url: string, init: RequestInit) => Promise<Pick<Response, "ok" | "status" | "text">>;

/** What an HTTP status that is no success says; 0 is no answer at all. */
export function causeOfStatus(status: number): Exclude<Cause, "broken" | "ended"> {
  if (status === 0) return "offline";
  if (status === 401 || status === 403) return "refused";
  if (status === 400 || status === 414) return "bad-name";
  return status === 404 || status === 410 ? "absent" : "unavailable";
}

/** Follows the multivariant playlist at `url` to its first media playlist and says what that is. */
export async function probe(url: string, authorized: (url: string) => string, fetcher: Fetch): Promise<Probe> {
  let target = authorized(url);
  for (let hops = 0; hops < 2; hops += 1) {
    const got = await get(target, fetcher);
    if (typeof got === "number") return causeOfStatus(got);
    const playlist = readPlaylist(got);
    if (playlist.kind !== "multivariant") return playlist.kind;
    target = authorized(new URL(playlist.first, target).href);
  }
  return "unavailable";
}

/** The body, or the status that stands in for one; 0 when nothing answered in time. */
async function get(url: string, fetcher: Fetch): Promise<string | number> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), PROBE_TIMEOUT_MS);
  try {
    const response = await fetcher(url, { cache: "no-store", signal: abort.signal });
    return response.ok ? await response.text() : response.status;
  } catch {
    return 0;
  } finally {
    clearTimeout(timer);
  }
}

type Playlist = { kind: "multivariant"; first: string } | { kind: "live" | "ended" | "absent" | "unavailable" };

/** A playlist with nothing in it yet is as good as none: `absent`. What is no playlist is `unavailable`. */
export function readPlaylist(text: string): Playlist {
  const lines = text.split(/\r?\n/);
  if (lines[0]?.trim() !== "#EXTM3U") return { kind: "unavailable" };
  const variant = lines.findIndex((line) => line.startsWith("#EXT-X-STREAM-INF:"));
  if (variant >= 0) {
    const first = lines.slice(variant + 1).find((line) => line !== "" && !line.startsWith("#"));
    return first === undefined ? { kind: "absent" } : { kind: "multivariant", first: first.trim() };
  }
  if (lines.some((line) => line.startsWith("#EXT-X-ENDLIST"))) return { kind: "ended" };
  const filled = lines.some((line) => line.startsWith("#EXTINF:") || line.startsWith("#EXT-X-PART:"));
  return { kind: filled ? "live" : "absent" };
}
