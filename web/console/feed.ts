/** The state of the cluster as it comes in: read once, then once a second as events. */

import { useEffect, useState } from "preact/hooks";
import { CLUSTER_URL, EVENTS_URL, readCluster, type Cluster } from "./api";

export type Connection = "connecting" | "open" | "lost" | "refused" | "unreadable";

export interface Feed {
  connection: Connection;
  cluster: Cluster | null;
  /** When `cluster` came in, by `performance.now()`. */
  received_ms: number;
}

/** An event is due each second. A connection that brings none for so long is dead, whatever it says. */
const SILENCE_MS = 6000;
const RETRY_MS = 1000;
const RETRY_LIMIT_MS = 10_000;

/** Before the next connection: a second, doubling to ten. */
export function reconnectDelayMs(attempt: number): number {
  return Math.min(RETRY_MS * 2 ** attempt, RETRY_LIMIT_MS);
}

export function useFeed(): Feed {
  const [feed, setFeed] = useState<Feed>({ connection: "connecting", cluster: null, received_ms: 0 });
  useEffect(() => {
    const source = new Source(
      (cluster) => setFeed(({ connection }) => ({ connection, cluster, received_ms: performance.now() })),
      (connection) => setFeed((old) => (old.connection === connection ? old : { ...old, connection })),
    );
    return () => source.close();
  }, []);
  return feed;
}

class Source {
  private events: EventSource | null = null;
  private timer = 0;
  private attempt = 0;
  private closed = false;

  constructor(
    private readonly onCluster: (cluster: Cluster) => void,
    private readonly onConnection: (connection: Connection) => void,
  ) {
    void this.readOnce();
    this.connect();
  }

  close(): void {
    this.closed = true;
    this.events?.close();
    window.clearTimeout(this.timer);
  }

  private async readOnce(): Promise<void> {
    try {
      const response = await fetch(CLUSTER_URL, { cache: "no-store" });
      if (response.status === 401 || response.status === 403) this.onConnection("refused");
      if (response.ok) this.take(await response.json());
    } catch {
      // The events bring the same, and their loss is what is shown.
    }
  }

  private connect(): void {
    this.events = new EventSource(EVENTS_URL);
    this.events.addEventListener("cluster", (event: MessageEvent<string>) => {
      this.attempt = 0;
      this.watch(SILENCE_MS);
      this.onConnection(this.take(parse(event.data)) ? "open" : "unreadable");
    });
    this.events.addEventListener("error", () => this.lost());
    this.watch(SILENCE_MS);
  }

  private take(json: unknown): boolean {
    const cluster = readCluster(json);
    if (cluster !== null && !this.closed) this.onCluster(cluster);
    return cluster !== null;
  }

  /** The browser connects again by itself, unless the server answered with something other than events. */
  private lost(): void {
    this.onConnection("lost");
    if (this.events?.readyState === EventSource.CLOSED) this.watch(reconnectDelayMs(this.attempt));
  }

  /** Connects afresh, unless an event comes first. */
  private watch(ms: number): void {
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => {
      this.attempt += 1;
      this.events?.close();
      this.onConnection("lost");
      void this.readOnce();
      this.connect();
    }, ms);
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
