/** The player page: clocks, requests and the video element around `Session`, which decides. */

import { StreamAddress } from "./address";
import { cannotPlayHls, newHlsEngine, type Engine, type EngineEvents } from "./engine";
import { Order, playOrder, type Way } from "./order";
import { probe, type Cause } from "./probe";
import { Session, type Action, type Sample } from "./session";
import { nothing, type Snapshot } from "./snapshot";
import { View } from "./view";
import { cannotPlayWebRtc, WebRtcEngine } from "./webrtc";

declare global {
  interface Window {
    readonly sluicegate: Snapshot;
  }
}

const TICK_MS = 250;

function run(): void {
  const address = StreamAddress.ofPage(location.href);
  const view = new View({ goLive: () => player?.goLive() });
  const player = address === null ? null : Player.start(address, view.video);
  const snapshot = (): Snapshot => player?.snapshot() ?? nothing(address?.stream ?? "");
  Object.defineProperty(window, "sluicegate", { get: snapshot });
  if (address !== null) document.title = `${address.stream} · Sluicegate`;
  view.show(snapshot());
  if (address !== null && player === null) view.showUnsupported();
  if (player === null) return;
  window.setInterval(() => {
    player.tick();
    view.show(snapshot());
  }, TICK_MS);
}

class Player {
  private readonly session = new Session(performance.now(), Math.random);

  private engine: Engine | null = null;
  private order: Order;

  private constructor(
    private readonly address: StreamAddress,
    private readonly video: HTMLVideoElement,
    private readonly wanted: readonly Way[],
    private readonly cannot: Record<Way, string | null>,
  ) {
    this.order = new Order(wanted, cannot);
  }

  /** `null` when the browser can play the stream in no way. */
  static start(address: StreamAddress, video: HTMLVideoElement): Player | null {
    const cannot = { webrtc: cannotPlayWebRtc(), hls: cannotPlayHls(video) };
    const player = new Player(address, video, playOrder(location.href), cannot);
    if (player.order.way === null) return null;
    window.addEventListener("online", () => player.session.networkBack(performance.now()));
    player.open();
    return player;
  }

  tick(): void {
    const { video } = this;
    const sample: Sample = {
      position_s: video.currentTime,
      ready: video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA,
      paused: video.paused,
      ended: video.ended,
    };
    this.act(this.session.tick(sample, performance.now()));
  }

  goLive(): void {
    this.engine?.goLive();
  }

  snapshot(): Snapshot {
    const { video, engine } = this;
    const state = this.session.state(performance.now());
    const figures = engine?.figures() ?? null;
    const onAir = state === "live" || state === "paused" || state === "stalled";
    return {
      state,
      stream: this.address.stream,
      latencyMs: onAir ? (engine?.latencyMs(Date.now()) ?? null) : null,
      positionS: video.currentTime,
      bufferS: buffered_s(video),
      width: video.videoWidth,
      height: video.videoHeight,
      fps: figures?.fps ?? null,
      bitrateBps: engine?.bitrate_bps() ?? null,
      packetsLost: figures?.packetsLost ?? null,
      lossShare: figures?.lossShare ?? null,
      framesDecoded: figures?.framesDecoded ?? null,
      audioEnergy: figures?.audioEnergy ?? null,
      droppedFrames: video.getVideoPlaybackQuality?.().droppedVideoFrames ?? 0,
      muted: video.muted,
      recoveries: this.session.recoveries,
      engine: engine?.name ?? null,
      fallback: this.order.why,
    };
  }

  /** Opens the stream by the best way first: what stood in its way may be over. */
  private open(): void {
    this.order = new Order(this.wanted, this.cannot);
    this.openByOrder();
  }

  private openByOrder(): void {
    this.engine?.close();
    const { video, address, session } = this;
    const events: EngineEvents = {
      failed: (cause) => session.failed(cause, performance.now()),
      troubled: (cause) => session.troubled(cause),
      playlist: (edge, ended) => session.playlist(edge, ended, performance.now()),
      unsuited: (why, cause) => this.fallBack(why, cause),
    };
    const byWebRtc = this.order.way === "webrtc";
    this.engine = byWebRtc ? new WebRtcEngine(video, address.whep(), events) : newHlsEngine(video, address, events);
    session.opens(performance.now());
    this.engine.open();
  }

  private fallBack(why: string, cause: Cause): void {
    if (this.order.fallBack(why)) this.openByOrder();
    else this.session.failed(cause, performance.now());
  }

  private act(action: Action | null): void {
    if (action === "open") this.open();
    if (action === "probe") void this.probe();
    if (action === "go-live") this.goLive();
  }

  private async probe(): Promise<void> {
    const authorized = (url: string): string => this.address.authorized(url);
    const result = await probe(this.address.playlist.href, authorized, (url, init) => fetch(url, init));
    this.act(this.session.probed(result, performance.now()));
  }
}

/** What is loaded beyond the frame on screen, up to the first gap. */
function buffered_s(video: HTMLVideoElement): number {
  const { buffered, currentTime } = video;
  for (let i = 0; i < buffered.length; i += 1) {
    if (buffered.start(i) <= currentTime + 0.1 && currentTime < buffered.end(i)) return buffered.end(i) - currentTime;
  }
  return 0;
}

run();
