/** The state of the cluster as it comes in: an event a second, with the rows that are asked for. */

import { useLayoutEffect, useState } from "preact/hooks";
import { EVENTS_URL, readUpdate, type Update } from "./api";
import { parameters, type ConsoleQuery } from "./rows";

export type Connection = "connecting" | "open" | "lost" | "unreadable";

export interface Feed {
  connection: Connection;
  cluster: Update | null;
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

export function useFeed(query: ConsoleQuery): Feed {
  const [feed, setFeed] = useState<Feed>({ connection: "connecting", cluster: null, received_ms: 0 });
  const asked = parameters(query);
  // Not after the next frame, as effects are: it is what the first view waits for.
  useLayoutEffect(() => {
    const source = new Source(
      `${EVENTS_URL}?${asked}`,
      (cluster) => setFeed(({ connection }) => ({ connection, cluster, received_ms: performance.now() })),
      (connection) => setFeed((old) => (old.connection === connection ? old : { ...old, connection })),
    );
    return () => source.close();
  }, [asked]);
  return feed;
}

class Source {
  private events: EventSource | null = null;
  private timer = 0;
  private attempt = 0;
  private closed = false;

  constructor(
    private readonly url: string,
    private readonly onCluster: (cluster: Update) => void,
    private readonly onConnection: (connection: Connection) => void,
  ) {
    this.connect();
  }

  close(): void {
    this.closed = true;
    this.events?.close();
    window.clearTimeout(this.timer);
  }

  private connect(): void {
    this.events = new EventSource(this.url);
    this.events.addEventListener("console", (event: MessageEvent<string>) => {
      this.attempt = 0;
      this.watch(SILENCE_MS);
      this.onConnection(this.take(parse(event.data)) ? "open" : "unreadable");
    });
    this.events.addEventListener("error", () => this.lost());
    this.watch(SILENCE_MS);
  }

  private take(json: unknown): boolean {
    const cluster = readUpdate(json);
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
