/**
 * The HTTP half of a WebRTC session, which is the same for publishing (WHIP, RFC 9725) and viewing (WHEP,
 * draft-ietf-wish-whep): the offer is posted, the answer comes back with the session's own address, and the
 * session ends by DELETE there.
 */

const SDP = "application/sdp";
const ANSWER_TIMEOUT_MS = 8000;
/** A server that asks for more patience than this is asked again all the same. */
const RETRY_AFTER_LIMIT_MS = 30_000;

export interface Endpoint {
  /** With what is passed on in its query. */
  readonly url: string;
  /** Sent as a bearer token too. */
  readonly token: string | null;
}

export interface Opened {
  readonly answer: string;
  /** The session's own address; `null` when the server named none, and then it cannot be ended early. */
  readonly session: string | null;
  /** STUN and TURN servers that the server tells of (RFC 9725 section 4.6). */
  readonly iceServers: readonly RTCIceServer[];
}

type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** The server's refusal, or none: `status` is 0 when nothing answered. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    /** What the server says of it; empty when it says nothing. */
    readonly reason: string,
    /** When it asks to be asked again, in ms. */
    readonly retryAfterMs: number | null,
  ) {
    super(`${status} ${reason}`.trim());
  }
}

/** Posts an offer. Rejects with `Refused`. */
export async function open(endpoint: Endpoint, offer: string, fetcher: Fetch): Promise<Opened> {
  const response = await ask(endpoint, { method: "POST", body: offer }, endpoint.url, fetcher);
  const body = await response.text().catch(() => "");
  if (response.status !== 201) {
    throw new Refused(response.status, reasonOf(body), retryAfterMs(response.headers.get("retry-after")));
  }
  const location = response.headers.get("location");
  const session = location === null ? null : new URL(location, endpoint.url).href;
  return { answer: body, session, iceServers: iceServersIn(response.headers.get("link") ?? "") };
}

/** Ends a session. A server that does not hear it notices by itself before long. */
export async function close(endpoint: Endpoint, session: string | null, fetcher: Fetch): Promise<void> {
  if (session !== null) await ask(endpoint, { method: "DELETE", keepalive: true }, session, fetcher).catch(() => undefined);
}

async function ask(endpoint: Endpoint, init: RequestInit, url: string, fetcher: Fetch): Promise<Response> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), ANSWER_TIMEOUT_MS);
  const headers: Record<string, string> = init.method === "POST" ? { "content-type": SDP } : {};
  if (endpoint.token !== null) headers["authorization"] = `Bearer ${endpoint.token}`;
  try {
    return await fetcher(url, { ...init, headers, cache: "no-store", signal: abort.signal });
  } catch {
    throw new Refused(0, "", null);
  } finally {
    clearTimeout(timer);
  }
}

/** The servers in a `Link` header: `<stun:h>; rel="ice-server"`, with TURN's user and password as parameters. */
export function iceServersIn(link: string): RTCIceServer[] {
  const servers: RTCIceServer[] = [];
  for (const [, urls = "", rest = ""] of link.matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+="[^"]*")*)/g)) {
    const parameters = new Map([...rest.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    if (parameters.get("rel") !== "ice-server" || !/^(stun|turns?):/.test(urls)) continue;
    const [username, credential] = [parameters.get("username"), parameters.get("credential")];
    servers.push(username === undefined || credential === undefined ? { urls } : { urls, username, credential });
  }
  return servers;
}

/** The title of a problem body (RFC 9457). */
function reasonOf(body: string): string {
  try {
    const problem: unknown = JSON.parse(body);
    if (typeof problem !== "object" || problem === null) return "";
    const { detail, title } = problem as { detail?: unknown; title?: unknown };
    return [detail, title].find((text): text is string => typeof text === "string" && text !== "") ?? "";
  } catch {
    return "";
  }
}

function retryAfterMs(header: string | null): number | null {
  const seconds = Number(header ?? Number.NaN);
  return seconds >= 0 ? Math.min(seconds * 1000, RETRY_AFTER_LIMIT_MS) : null;
}
