/** What plays HLS: hls.js where the browser has Media Source Extensions, the browser itself elsewhere. */

import Hls, { ErrorDetails, ErrorTypes, Events } from "hls.js";
import type { ErrorData, HlsConfig, LevelDetails, RetryConfig } from "hls.js";
import type { Figures } from "../shared/stats";
import type { StreamAddress } from "./address";
import { latencyMs } from "./latency";
import { playbackRate } from "./pace";
import { causeOfStatus, type Cause } from "./probe";

export interface Engine {
  readonly name: "WebRTC" | "hls.js" | "native";
  /** Loads the stream, dropping whatever was loaded before. */
  open(): void;
  /** Drops whatever was loaded and gives the video element back. */
  close(): void;
  /** How far the frame on screen is behind the camera at `nowMs`, in ms, where that can be told. */
  latencyMs(nowMs: number): number | null;
  /** The bit rate of the rendition that plays, in bits a second. */
  bitrate_bps(): number | null;
  /** What the connection says of itself; `null` where there is none. */
  figures(): Figures | null;
  /** Plays what is newest. */
  goLive(): void;
}

export interface EngineEvents {
  /** Nothing more will be loaded until `open`. What is buffered plays on. */
  failed(cause: Cause): void;
  /** A request failed and is tried again. */
  troubled(cause: Cause): void;
  playlist(edge: string, ended: boolean): void;
  /** The stream cannot be played this way, for the reason `why`. Another way may do; if there is none, `cause`. */
  unsuited(why: string, cause: Cause): void;
}

const NATIVE_TYPE = "application/vnd.apple.mpegurl";

/** Why this browser cannot play HLS; `null` when it can. */
export function cannotPlayHls(video: HTMLVideoElement): string | null {
  const can = Hls.isSupported() || video.canPlayType(NATIVE_TYPE) !== "";
  return can ? null : "this browser has neither Media Source Extensions nor HLS";
}

export function newHlsEngine(video: HTMLVideoElement, address: StreamAddress, events: EngineEvents): Engine {
  return Hls.isSupported() ? new HlsEngine(video, address, events) : new NativeEngine(video, address, events);
}

/** A second media error within this time is not repaired in place. */
const REPAIR_INTERVAL_MS = 10_000;
/** Between looks at the playlist when a file that it named is gone, as the last ones of a lost origin are. */
const RENEWAL_MS = 500;
/** Looks that may be in vain, in a row. */
const RENEWALS_MAX = 12;

class HlsEngine implements Engine {
  readonly name = "hls.js";
  private hls: Hls | null = null;
  private repairedAt = -Infinity;
  private renewals = 0;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly address: StreamAddress,
    private readonly events: EngineEvents,
  ) {}

  open(): void {
    this.hls?.destroy();
    const hls = new Hls(config(this.address));
    this.hls = hls;
    hls.on(Events.ERROR, (_, data) => {
      if (data.fatal) this.fatal(hls, data);
      else if (data.type === ErrorTypes.NETWORK_ERROR) this.events.troubled(causeOf(data));
    });
    hls.on(Events.FRAG_BUFFERED, () => (this.renewals = 0));
    this.video.ontimeupdate = () => this.keepPace(hls);
    hls.on(Events.LEVEL_UPDATED, (_, { details }) => this.events.playlist(edgeOf(details), !details.live));
    hls.loadSource(this.address.playlist.href);
    hls.attachMedia(this.video);
  }

  close(): void {
    this.video.ontimeupdate = null;
    this.video.playbackRate = 1;
    this.hls?.destroy();
    this.hls = null;
  }

  latencyMs(nowMs: number): number | null {
    return latencyMs(this.hls?.playingDate ?? null, nowMs);
  }

  bitrate_bps(): number | null {
    const level = this.hls?.levels[this.hls.currentLevel];
    return level && level.bitrate > 0 ? level.bitrate : null;
  }

  figures(): null {
    return null;
  }

  goLive(): void {
    const position = this.hls?.liveSyncPosition;
    if (typeof position === "number") this.video.currentTime = position;
  }

  private keepPace(hls: Hls): void {
    const { buffered, currentTime } = this.video;
    const end_s = buffered.length > 0 ? buffered.end(buffered.length - 1) : currentTime;
    const details = hls.latestLevelDetails;
    const rate = details?.live
      ? playbackRate({
          latency_s: hls.latency,
          target_s: hls.targetLatency ?? Infinity,
          buffered_s: end_s - currentTime,
          part_s: details.partTarget || null,
        })
      : 1;
    if (this.video.playbackRate !== rate) this.video.playbackRate = rate;
  }

  private fatal(hls: Hls, data: ErrorData): void {
    const now = performance.now();
    if (data.type === ErrorTypes.MEDIA_ERROR && now - this.repairedAt > REPAIR_INTERVAL_MS) {
      this.repairedAt = now;
      hls.recoverMediaError();
      return;
    }
    if (isGone(data) && this.renewals < RENEWALS_MAX) {
      this.renewals += 1;
      // What is buffered plays on, and the next playlist names other files.
      setTimeout(() => this.hls === hls && hls.startLoad(), RENEWAL_MS);
      return;
    }
    hls.stopLoad();
    this.events.failed(causeOf(data));
  }
}

/** Whether a segment or a part that a playlist named is not to be had any more. */
function isGone(data: ErrorData): boolean {
  const status = data.response?.code ?? 0;
  return data.details === ErrorDetails.FRAG_LOAD_ERROR && (status === 404 || status === 410);
}

/** A playlist's status tells of the stream; a segment's tells only that this playlist is of no more use. */
function causeOf(data: ErrorData): Cause {
  if (data.type !== ErrorTypes.NETWORK_ERROR) return "broken";
  const status = data.response?.code ?? 0;
  if (status === 0) return data.details === ErrorDetails.LEVEL_EMPTY_ERROR ? "absent" : "offline";
  const ofPlaylist =
    data.details === ErrorDetails.MANIFEST_LOAD_ERROR ||
    data.details === ErrorDetails.LEVEL_LOAD_ERROR ||
    data.details === ErrorDetails.AUDIO_TRACK_LOAD_ERROR;
  return ofPlaylist && status >= 400 ? causeOfStatus(status) : "broken";
}

function edgeOf(details: LevelDetails): string {
  return `${details.endSN}.${details.lastPartSn}.${details.lastPartIndex}`;
}

function config(address: StreamAddress): Partial<HlsConfig> {
  return {
    lowLatencyMode: true,
    // `keepPace` does that.
    maxLiveSyncPlaybackRate: 1,
    backBufferLength: 30,
    // The worker would be a script from a blob, which the page's content security policy does not allow.
    // Fragmented MP4, which Sluicegate packages, needs no repackaging that would keep a worker busy.
    enableWorker: false,
    xhrSetup: (xhr, url) => xhr.open("GET", address.authorized(url), true),
    manifestLoadPolicy: { default: { maxTimeToFirstByteMs: 8000, maxLoadTimeMs: 12_000, timeoutRetry: retry(1), errorRetry: retry(1) } },
    // A blocking reload is answered within three target durations, or with 503 (RFC 8216bis section 6.2.5.2).
    playlistLoadPolicy: { default: { maxTimeToFirstByteMs: 20_000, maxLoadTimeMs: 24_000, timeoutRetry: retry(2), errorRetry: retry(6) } },
    fragLoadPolicy: { default: { maxTimeToFirstByteMs: 10_000, maxLoadTimeMs: 30_000, timeoutRetry: retry(3), errorRetry: retry(5) } },
  };
}

/** Again after half a second, twice that, and so on to 4 s; but what a client did wrong is not tried again. */
function retry(times: number): RetryConfig {
  return {
    maxNumRetry: times,
    retryDelayMs: 500,
    maxRetryDelayMs: 4000,
    backoff: "exponential",
    shouldRetry: (retryConfig, retryCount, isTimeout, response) => {
      const status = response?.code ?? 0;
      if (!isTimeout && status >= 400 && status < 500 && status !== 429) return false;
      return retryCount < (retryConfig?.maxNumRetry ?? 0);
    },
  };
}

/** Safari's own HLS. It cannot add a token to a segment's address; the server's playlist has to carry it. */
class NativeEngine implements Engine {
  readonly name = "native";

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly address: StreamAddress,
    events: EngineEvents,
  ) {
    video.addEventListener("error", () => events.failed("broken"));
  }

  open(): void {
    this.video.src = this.address.authorized(this.address.playlist.href);
    this.video.load();
    // Refused where the browser wants a gesture first: the page then shows its own play button.
    this.video.play().catch(() => undefined);
  }

  close(): void {
    this.video.removeAttribute("src");
    this.video.load();
  }

  latencyMs(nowMs: number): number | null {
    const video = this.video as HTMLVideoElement & { getStartDate?: () => Date };
    const start_ms = video.getStartDate?.().getTime() ?? Number.NaN;
    return latencyMs(Number.isFinite(start_ms) ? new Date(start_ms + video.currentTime * 1000) : null, nowMs);
  }

  bitrate_bps(): null {
    return null;
  }

  figures(): null {
    return null;
  }

  goLive(): void {
    const { seekable } = this.video;
    if (seekable.length > 0) this.video.currentTime = seekable.end(seekable.length - 1);
  }
}
