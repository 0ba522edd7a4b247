/** The publish page: clocks, devices and the connection around `Session`, which decides. */

import { StreamAddress } from "../player/address";
import type { Figures } from "../shared/stats";
import { Session, type Action, type State } from "./session";
import { canShareScreen, capture, devices, troubleOf, whyNot } from "./sources";
import { View } from "./view";
import { WhipSession } from "./whip";

/** The publisher as it is now; `window.sluicegate` on the page. */
export interface Snapshot {
  state: State;
  stream: string;
  /** What the server said when it refused. */
  reason: string;
  liveForMs: number | null;
  reconnects: number;
  hasMedia: boolean;
  figures: Figures | null;
  /** The player page of the stream. */
  watch: string;
}

declare global {
  interface Window {
    readonly sluicegatePublisher: Snapshot;
  }
}

const TICK_MS = 250;
/** Bits a second for each picture height: what H.264 in real time takes to look well. */
const BITRATE_BPS: Record<number, number> = { 1080: 4_500_000, 720: 2_500_000, 480: 1_200_000 };

class Publisher {
  private readonly session = new Session(whyNot(), Math.random);
  private readonly view: View;
  private media: MediaStream | null = null;
  private whip: WhipSession | null = null;
  private reason = "";

  constructor() {
    const named = StreamAddress.ofPage(location.href)?.stream ?? "";
    this.view = new View(named, canShareScreen(), {
      capture: () => void this.capture(),
      start: () => this.start(),
      stop: () => this.act(this.session.stop()),
    });
    window.addEventListener("online", () => this.session.networkBack(performance.now()));
    window.addEventListener("pagehide", () => this.whip?.end());
    window.setInterval(() => this.tick(), TICK_MS);
    Object.defineProperty(window, "sluicegatePublisher", { get: () => this.snapshot() });
    this.view.show(this.snapshot());
    if (this.session.state === "idle") void this.listDevices();
  }

  snapshot(): Snapshot {
    const now = performance.now();
    const stream = this.view.stream;
    const address = this.address(stream);
    return {
      state: this.session.state,
      stream,
      reason: this.reason,
      liveForMs: this.session.liveForMs(now),
      reconnects: this.session.reconnects,
      hasMedia: this.media !== null,
      figures: this.whip?.figures() ?? null,
      watch: address === null ? "" : `play.html?id=${encodeURIComponent(stream)}`,
    };
  }

  private tick(): void {
    this.act(this.session.tick(performance.now()));
    this.view.show(this.snapshot());
  }

  private async capture(): Promise<void> {
    if (this.session.isOn) return;
    this.session.asking();
    this.view.show(this.snapshot());
    this.drop();
    try {
      const media = await capture(this.view.choice());
      media.getVideoTracks().forEach((track) => track.addEventListener("ended", () => this.captureEnded(media)));
      this.media = media;
      this.view.preview(media);
      this.session.captured();
      await this.listDevices();
    } catch (error) {
      this.session.cannotCapture(troubleOf(error));
    }
    this.view.show(this.snapshot());
  }

  private captureEnded(media: MediaStream): void {
    if (this.media !== media) return;
    this.drop();
    this.act(this.session.captureEnded());
  }

  private drop(): void {
    this.media?.getTracks().forEach((track) => track.stop());
    this.media = null;
    this.view.preview(null);
  }

  private async listDevices(): Promise<void> {
    this.view.offer(await devices("videoinput"), await devices("audioinput"));
  }

  private start(): void {
    if (this.session.isOn || this.media === null) return;
    this.reason = "";
    if (this.view.stream === "") this.session.cannotCapture("no-name");
    else this.act(this.session.start(performance.now()));
    this.view.show(this.snapshot());
  }

  private act(action: Action | null): void {
    if (action === null) return;
    this.whip?.end();
    this.whip = null;
    if (action === "connect") this.connect();
  }

  private connect(): void {
    const address = this.address(this.view.stream);
    if (address === null || this.media === null) return;
    const { session } = this;
    const bitrate_bps = BITRATE_BPS[this.view.choice().height] ?? 2_500_000;
    this.whip = new WhipSession(address.whip(), this.media, bitrate_bps, {
      connected: () => session.connected(performance.now()),
      lost: () => this.act(session.lost(performance.now())),
      refused: (status, reason, retryAfterMs) => {
        this.reason = reason;
        this.act(session.refused(status, retryAfterMs, performance.now()));
      },
    });
  }

  /** The page's address with this stream's name; its token and the like stay. */
  private address(stream: string): StreamAddress | null {
    const page = new URL(location.href);
    page.searchParams.set("id", stream);
    return StreamAddress.ofPage(page.href);
  }
}

new Publisher();
