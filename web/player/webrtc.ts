/** Plays by WebRTC: a WHEP session whose media is the video element's stream. */

import { close, open, Refused, type Endpoint } from "../shared/signalling";
import { received, type Figures, type Reading, type Stat } from "../shared/stats";
import type { Engine, EngineEvents } from "./engine";
import { latencyMs } from "./latency";
import { causeOfStatus } from "./probe";

/** From the answer to media that flows. A network that lets no UDP through shows by silence. */
const CONNECT_LIMIT_MS = 5000;
const STATS_EVERY_MS = 1000;
/** Statuses by which a server says that it does not play this stream by WebRTC. */
const NOT_BY_WEBRTC = [400, 404, 405, 406, 415, 422, 501];

/** Why this browser cannot play by WebRTC; `null` when it can. */
export function cannotPlayWebRtc(): string | null {
  return typeof RTCPeerConnection === "undefined" ? "this browser has no WebRTC" : null;
}

export class WebRtcEngine implements Engine {
  readonly name = "WebRTC";
  private attempt: Attempt | null = null;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly endpoint: Endpoint,
    private readonly events: EngineEvents,
  ) {
    window.addEventListener("pagehide", () => this.close());
  }

  open(): void {
    this.close();
    this.attempt = new Attempt(this.video, this.endpoint, this.events);
  }

  close(): void {
    this.attempt?.end();
    this.attempt = null;
  }

  latencyMs(nowMs: number): number | null {
    const figures = this.figures();
    if (figures === null) return null;
    const bySender = figures.playingAtMs === null ? null : latencyMs(new Date(figures.playingAtMs), nowMs);
    // Without the sender's clock: what this side of the camera is known to take.
    const known = figures.jitterBufferMs === null ? null : figures.jitterBufferMs + (figures.roundTripMs ?? 0) / 2;
    return bySender ?? known;
  }

  bitrate_bps(): number | null {
    return this.figures()?.bitrateBps ?? null;
  }

  figures(): Figures | null {
    return this.attempt?.reading?.figures ?? null;
  }

  goLive(): void {
    // It is never anywhere else; but a video that was paused goes on from what is newest only when it is told.
    this.video.play().catch(() => undefined);
  }
}

/** One session, from its offer to its end. */
class Attempt {
  reading: Reading | null = null;
  private readonly connection = new RTCPeerConnection();
  private readonly stream = new MediaStream();
  private readonly timers: number[] = [];
  private session: string | null = null;
  private hasConnected = false;
  private ended = false;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly endpoint: Endpoint,
    private readonly events: EngineEvents,
  ) {
    this.connection.addEventListener("track", ({ track }) => this.show(track));
    this.connection.addEventListener("connectionstatechange", () => this.changed());
    this.connection.addTransceiver("video", { direction: "recvonly" });
    this.connection.addTransceiver("audio", { direction: "recvonly" });
    this.negotiate().catch((error: unknown) => this.refused(error));
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.timers.forEach((timer) => window.clearInterval(timer));
    this.connection.close();
    if (this.video.srcObject === this.stream) this.video.srcObject = null;
    void close(this.endpoint, this.session, (url, init) => fetch(url, init));
  }

  private async negotiate(): Promise<void> {
    const offer = await this.connection.createOffer();
    // The other side's address is in its answer, and it learns ours from the first check.
    const sdp = withStereo(offer.sdp ?? "");
    const opened = await open(this.endpoint, sdp, (url, init) => fetch(url, init));
    if (this.ended) return close(this.endpoint, opened.session, (url, init) => fetch(url, init));
    this.session = opened.session;
    // Candidates are gathered from here on, with the servers' help that the answer tells of.
    this.connection.setConfiguration({ iceServers: [...opened.iceServers] });
    await this.connection.setLocalDescription({ type: "offer", sdp });
    await this.connection.setRemoteDescription({ type: "answer", sdp: opened.answer });
    this.timers.push(window.setTimeout(() => this.checkConnected(), CONNECT_LIMIT_MS));
    this.timers.push(window.setInterval(() => void this.read(), STATS_EVERY_MS));
  }

  private show(track: MediaStreamTrack): void {
    this.stream.addTrack(track);
    if (this.video.srcObject === this.stream) return;
    this.video.srcObject = this.stream;
    if (this.video.autoplay) this.video.play().catch(() => undefined);
  }

  private changed(): void {
    const state = this.connection.connectionState;
    if (state === "connected") this.hasConnected = true;
    if (state === "disconnected") this.events.troubled("offline");
    if (state === "failed" || state === "closed") this.lost();
  }

  private checkConnected(): void {
    if (!this.hasConnected) this.lost();
  }

  private lost(): void {
    if (this.ended) return;
    if (this.hasConnected) this.events.failed("broken");
    else this.events.unsuited("no media came: this network may not let it through", "unavailable");
  }

  private refused(error: unknown): void {
    if (this.ended) return;
    if (!(error instanceof Refused)) return this.events.unsuited("this browser cannot play what is offered", "unavailable");
    const { status, reason } = error;
    if (status === 409) this.events.unsuited("nothing is live", "absent");
    else if (NOT_BY_WEBRTC.includes(status)) this.events.unsuited(reason === "" ? "the server does not offer it" : reason, "unavailable");
    else if (status >= 500) this.events.unsuited("the server cannot at the moment", "unavailable");
    else this.events.failed(causeOfStatus(status));
  }

  private async read(): Promise<void> {
    const report = await this.connection.getStats().catch(() => null);
    if (report === null || this.ended) return;
    const stats: Stat[] = [];
    report.forEach((stat: Stat) => stats.push(stat));
    this.reading = received(stats, this.reading);
  }
}

/** Opus is sent in stereo only to those who say that they want it (RFC 7587 section 7). */
export function withStereo(sdp: string): string {
  return sdp.replace(/^(a=fmtp:\d+ .*useinbandfec=1)(?!.*stereo=)/gm, "$1;stereo=1");
}
