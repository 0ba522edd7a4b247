/** The player page: clocks, requests and the video element around `Session`, which decides. */

import { StreamAddress } from "./address";
import { newEngine, type Engine } from "./engine";
import { latencyMs } from "./latency";
import { probe } from "./probe";
import { Session, type Action, type Sample, type State } from "./session";
import { View } from "./view";

/** The player as it is now; `window.sluicegate` on the page. */
export interface Snapshot {
  state: State;
  /** Empty when the page's address names none. */
  stream: string;
  /** From the camera to the screen, by the playlist's program date and the viewer's clock. */
  latencyMs: number | null;
  positionS: number;
  /** How much is loaded beyond the frame on screen. */
  bufferS: number;
  width: number;
  height: number;
  bitrateBps: number | null;
  droppedFrames: number;
  muted: boolean;
  /** How often the stream was opened again. */
  recoveries: number;
  engine: "hls.js" | "native" | null;
}

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

  private constructor(
    private readonly address: StreamAddress,
    private readonly video: HTMLVideoElement,
    private engine: Engine | null,
  ) {}

  /** `null` when the browser can play no HLS. */
  static start(address: StreamAddress, video: HTMLVideoElement): Player | null {
    const player = new Player(address, video, null);
    const { session } = player;
    player.engine = newEngine(video, address, {
      failed: (cause) => session.failed(cause, performance.now()),
      troubled: (cause) => session.troubled(cause),
      playlist: (edge, ended) => session.playlist(edge, ended, performance.now()),
    });
    if (player.engine === null) return null;
    window.addEventListener("online", () => session.networkBack(performance.now()));
    player.engine.open();
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
    const onAir = state === "live" || state === "paused" || state === "stalled";
    return {
      state,
      stream: this.address.stream,
      latencyMs: onAir ? latencyMs(engine?.playingDate() ?? null, Date.now()) : null,
      positionS: video.currentTime,
      bufferS: buffered_s(video),
      width: video.videoWidth,
      height: video.videoHeight,
      bitrateBps: engine?.bitrate_bps() ?? null,
      droppedFrames: video.getVideoPlaybackQuality?.().droppedVideoFrames ?? 0,
      muted: video.muted,
      recoveries: this.session.recoveries,
      engine: engine?.name ?? null,
    };
  }

  private act(action: Action | null): void {
    if (action === "open") this.engine?.open();
    if (action === "probe") void this.probe();
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

function nothing(stream: string): Snapshot {
  return {
    state: "not-found",
    stream,
    latencyMs: null,
    positionS: 0,
    bufferS: 0,
    width: 0,
    height: 0,
    bitrateBps: null,
    droppedFrames: 0,
    muted: true,
    recoveries: 0,
    engine: null,
  };
}

run();
