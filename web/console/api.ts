/** The admin interface's answers: `GET /api/v1/cluster`, and the events `cluster` of `GET /api/v1/events`. */

export const CLUSTER_URL = "/api/v1/cluster";
export const EVENTS_URL = "/api/v1/events";

/** Times are ms of the database's clock, ages are ms; `null` is what is not known. */
export interface Cluster {
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
  nodes: ClusterNode[];
  streams: ClusterStream[];
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
  version: string;
  /** What is wrong with the node, in words. */
  problem: string | null;
}

export interface Gpu {
  name: string;
  /** Percent, as are `encoder` and `decoder`. */
  gpu: number;
  encoder: number;
  decoder: number;
  /** Bytes. */
  memory_used: number;
  memory_total: number;
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
}

/** The answer, or `null` when it has not the shape of one. */
export function readCluster(json: unknown): Cluster | null {
  if (typeof json !== "object" || json === null) return null;
  const { nodes, streams } = json as Partial<Cluster>;
  const named = (rows: unknown, name: string): boolean =>
    Array.isArray(rows) && rows.every((row) => typeof row === "object" && row !== null && typeof row[name] === "string");
  return named(nodes, "id") && named(streams, "key") ? (json as Cluster) : null;
}

/** The player's address for a stream, or `null` when no player is known. */
export function playerUrl(base: string | null | undefined, key: string): string | null {
  const slash = key.indexOf("/");
  if (!base || !/^https?:\/\//.test(base) || slash <= 0) return null;
  const [app, stream] = [key.slice(0, slash), key.slice(slash + 1)];
  return `${base.replace(/\/+$/, "")}/${encodeURIComponent(app)}/play.html?id=${encodeURIComponent(stream)}`;
}
