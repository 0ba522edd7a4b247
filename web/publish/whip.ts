/** One WHIP session, from its offer to its end. */

import { close, open, Refused, type Endpoint } from "../shared/signalling";
import { sent, type Figures, type Reading, type Stat } from "../shared/stats";

/** From the answer to media that flows. */
const CONNECT_LIMIT_MS = 8000;
const STATS_EVERY_MS = 1000;
/** A connection that hears nothing may come back by itself within this; after it a new one is quicker. */
const DISCONNECTED_LIMIT_MS = 1500;

export interface WhipEvents {
  connected(): void;
  lost(): void;
  /** The server's status, 0 for no answer; what it says; and when to ask again. */
  refused(status: number, reason: string, retryAfterMs: number | null): void;
}

export class WhipSession {
  private readonly connection = new RTCPeerConnection();
  private readonly timers: number[] = [];
  private reading: Reading | null = null;
  private session: string | null = null;
  private ended = false;

  constructor(
    private readonly endpoint: Endpoint,
    media: MediaStream,
    maxBitrateBps: number,
    private readonly events: WhipEvents,
  ) {
    this.connection.addEventListener("connectionstatechange", () => this.changed());
    for (const track of media.getTracks()) {
      const sendEncodings = track.kind === "video" ? [{ maxBitrate: maxBitrateBps }] : [];
      const transceiver = this.connection.addTransceiver(track, { direction: "sendonly", streams: [media], sendEncodings });
      if (track.kind === "video") preferH264(transceiver);
    }
    this.negotiate().catch((error: unknown) => this.refused(error));
  }

  figures(): Figures | null {
    return this.reading?.figures ?? null;
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.timers.forEach((timer) => window.clearInterval(timer));
    this.connection.close();
    void close(this.endpoint, this.session, (url, init) => fetch(url, init));
  }

  private async negotiate(): Promise<void> {
    const offer = await this.connection.createOffer();
    const opened = await open(this.endpoint, offer.sdp ?? "", (url, init) => fetch(url, init));
    if (this.ended) return close(this.endpoint, opened.session, (url, init) => fetch(url, init));
    this.session = opened.session;
    // Candidates are gathered from here on, with the servers' help that the answer tells of.
    this.connection.setConfiguration({ iceServers: [...opened.iceServers] });
    await this.connection.setLocalDescription(offer);
    await this.connection.setRemoteDescription({ type: "answer", sdp: opened.answer });
    this.watchTransports();
    this.timers.push(window.setTimeout(() => this.checkConnected(), CONNECT_LIMIT_MS));
    this.timers.push(window.setInterval(() => void this.read(), STATS_EVERY_MS));
  }

  private changed(): void {
    const state = this.connection.connectionState;
    if (this.ended) return;
    if (state === "connected") this.events.connected();
    if (state === "disconnected") this.timers.push(window.setTimeout(() => this.checkConnected(), DISCONNECTED_LIMIT_MS));
    if (state === "failed" || state === "closed") this.events.lost();
  }

  /** The server said goodbye (DTLS close_notify), which browsers do not make a state of the connection. */
  private watchTransports(): void {
    for (const sender of this.connection.getSenders()) {
      const { transport } = sender;
      transport?.addEventListener("statechange", () => {
        if (!this.ended && (transport.state === "closed" || transport.state === "failed")) this.events.lost();
      });
    }
  }

  private checkConnected(): void {
    if (!this.ended && this.connection.connectionState !== "connected") this.events.lost();
  }

  private refused(error: unknown): void {
    if (this.ended) return;
    if (error instanceof Refused) this.events.refused(error.status, error.reason, error.retryAfterMs);
    else this.events.refused(406, "the browser cannot use its answer", null);
  }

  private async read(): Promise<void> {
    const report = await this.connection.getStats().catch(() => null);
    if (report === null || this.ended) return;
    const stats: Stat[] = [];
    report.forEach((stat: Stat) => stats.push(stat));
    this.reading = sent(stats, this.reading);
  }
}

/** H.264 reaches every viewer without being encoded again. */
function preferH264(transceiver: RTCRtpTransceiver): void {
  const codecs = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
  const isH264 = (codec: { mimeType: string }): boolean => codec.mimeType.toLowerCase() === "video/h264";
  if (codecs.some(isH264)) {
    transceiver.setCodecPreferences([...codecs.filter(isH264), ...codecs.filter((codec) => !isH264(codec))]);
  }
}
