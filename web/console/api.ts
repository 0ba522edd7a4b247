/** The admin interface's answers: the events `console` of `GET /api/v1/console/events`, and one stream's page. */

import type { Page } from "./rows";

export const EVENTS_URL = "/api/v1/console/events";

/** Times are ms of the database's clock, ages are ms; `null` is what is not known. */
export interface About {
  cluster: string;
  /** The node that answers. */
  node: string;
  version: string;
  now: number;
  /** How old the state shown was when it was sent. */
  state_age_ms: number;
  store_ok: boolean;
  /** Where viewers reach the player: `http://host:5080`. */
  player_base: string | null;
}

/** What a page of the console is sent. */
export interface Shown extends About {
  /** Whether the console is used within a login's session, which can be ended. */
  logged_in: boolean;
}

export interface Update extends Shown {
  totals: Totals;
  nodes_page: Page<ClusterNode>;
  streams_page: Page<ClusterStream>;
  /** What happened last, the newest first. */
  events: ClusterEvent[];
}

export interface Totals {
  nodes_serving: number;
  streams_live: number;
  viewers: number;
  egress_bps: number;
  /** Of the nodes that take new streams. */
  free_mpx: number;
  capacity_mpx: number;
}

export interface ClusterEvent {
  at: number;
  kind: "joined" | "draining" | "died" | "left" | "claimed" | "moved" | "ended";
  /** A node or a stream. */
  subject: string;
  detail?: string;
}

/** `GET /api/v1/streams/{app}/{stream}`. */
export interface StreamPage extends Shown {
  stream: ClusterStream;
  renditions: string[];
  ladder: Ladder;
  origin: ClusterNode | null;
  /** The edges for its viewers, the first one first. */
  edges: ClusterNode[];
  placed: Placed | null;
  why: Why | null;
  events: ClusterEvent[];
}

/** What a balancer saw when it placed the stream where it is. */
export interface Placed {
  by: string;
  at: number;
  because: string;
  /** How many origins there were. */
  of: number;
  /** The first of them, the chosen one before all. */
  candidates: { node: string; freeMpx: number; capacityMpx: number; cpu: number; heartbeatAgeMs: number }[];
}

/** How what is made of a stream keeps up with it. */
export interface Ladder {
  /** Rungs that are not made for now, because encoders were late. */
  givenUp: string[];
  /** How far it is behind the source, ms. */
  lagMs: number;
  /** Frames of the source that it has passed over because it was late. */
  framesLost: number;
  /** How often its transcoder broke down and was started again. */
  restarts: number;
  /** Percent of one processor, for all rungs together. */
  decodePercent: number;
  scalePercent: number;
  encodePercent: number;
}

/** What the node's balancer would decide now; `null` on a node without one. */
export interface Why {
  answer: {
    origin: string | null;
    reason: string;
    candidates: { node: string; free_mpx: number; cpu: number; heartbeat_age_ms: number; probes: string; verdict: string }[];
    edges: string[];
  };
}

export type NodeState = "serving" | "joining" | "draining" | "gone" | "silent" | "unreadable";

export interface ClusterNode {
  id: string;
  roles: string[];
  group: string;
  http: string;
  state: NodeState;
  heartbeat_age_ms: number | null;
  /** Percent. */
  cpu: number | null;
  memory_used_bytes: number | null;
  memory_total_bytes: number | null;
  /** Encoded megapixels a second. */
  capacity_mpx: number | null;
  free_mpx: number | null;
  gpus: Gpu[];
  egress_bps: number | null;
  viewers: number | null;
  publishes: number | null;
  /** How far its machine's clock is ahead of the cluster's time; negative when it is behind. */
  clock_ahead_ms: number;
  version: string;
  /** What is wrong with the node, in words. */
  problem: string | null;
}

export interface Gpu {
  name: string;
  /** Whether streams are placed on it. */
  state: "good" | "untried" | "suspect" | "resting" | "silent";
  /** Percent, as are `encoder` and `decoder`. */
  gpu: number;
  encoder: number;
  decoder: number;
  /** Bytes. */
  memoryUsed: number;
  memoryTotal: number;
}

export interface ClusterStream {
  /** `app/stream`. */
  key: string;
  origin: string | null;
  epoch: number;
  claims: number;
  viewers: number | null;
  bitrate_bps: number | null;
  width: number | null;
  height: number | null;
  fps: number | null;
  started_at: number | null;
  age_ms: number | null;
  live: boolean;
  /** What is wrong with its document, in words. */
  problem: string | null;
}

/** The update, or `null` when it has not the shape of one. */
export function readUpdate(json: unknown): Update | null {
  if (typeof json !== "object" || json === null) return null;
  const { nodes_page, streams_page, totals, events } = json as Partial<Update>;
  const named = (page: Partial<Page<object>> | undefined, name: string): boolean =>
    Array.isArray(page?.rows) && page.rows.every((row: unknown) => typeof (row as Record<string, unknown> | null)?.[name] === "string");
  const whole = named(nodes_page, "id") && named(streams_page, "key") && typeof totals === "object" && Array.isArray(events);
  return whole ? (json as Update) : null;
}

/** The stream's page, or `null` when it has not the shape of one. */
export function readStreamPage(json: unknown): StreamPage | null {
  const page = json as Partial<StreamPage> | null;
  const whole = typeof page?.stream?.key === "string" && Array.isArray(page.edges) && Array.isArray(page.renditions) && Array.isArray(page.ladder?.givenUp);
  return whole ? (json as StreamPage) : null;
}

/** Orders to a node. Resolves to what went wrong, or `null`. */
export async function order(node: string, what: "drain" | "undrain" | "remove"): Promise<string | null> {
  const at = `/api/v1/nodes/${encodeURIComponent(node)}`;
  const request = what === "remove" ? fetch(at, { method: "DELETE" }) : fetch(`${at}/${what}`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
  try {
    const response = await request;
    if (response.ok) return null;
    const problem = (await response.json()) as { title?: string; message?: string };
    return problem.title ?? problem.message ?? `status ${response.status}`;
  } catch {
    return "the node did not answer";
  }
}

/** Ends the login's session. Resolves to whether it has ended. */
export async function logOut(): Promise<boolean> {
  try {
    return (await fetch("/logout", { method: "POST" })).ok;
  } catch {
    return false;
  }
}

/** The player's address for a stream, or `null` when no player is known. */
export function playerUrl(base: string | null | undefined, key: string): string | null {
  const slash = key.indexOf("/");
  if (!base || !/^https?:\/\//.test(base) || slash <= 0) return null;
  const [app, stream] = [key.slice(0, slash), key.slice(slash + 1)];
  return `${base.replace(/\/+$/, "")}/${encodeURIComponent(app)}/play.html?id=${encodeURIComponent(stream)}`;
}
