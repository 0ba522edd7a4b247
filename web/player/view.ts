/** The page's elements: what they show, and what a viewer does with them. */

import { bitrate, count, delay, percent, picture, UNKNOWN } from "../shared/format";
import type { Snapshot } from "./snapshot";
import { words } from "./words";

/** What a viewer can ask for. The rest is between the page and its video element. */
export interface Wishes {
  goLive(): void;
}

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found as T;
}

export class View {
  readonly video = element<HTMLVideoElement>("video");
  private readonly player = element("player");
  private readonly playButton = element<HTMLButtonElement>("toggle-play");
  private readonly volume = element<HTMLInputElement>("volume");

  constructor(private readonly wishes: Wishes) {
    // The attribute alone does not mute a page that a script has already touched.
    this.video.muted = true;
    this.onClick("toggle-play", () => this.togglePlay());
    this.onClick("start", () => this.togglePlay());
    this.onClick("toggle-sound", () => this.toggleSound());
    this.onClick("unmute", () => this.toggleSound());
    this.onClick("go-live", () => this.goLive());
    this.onClick("fullscreen", () => this.toggleFullscreen());
    this.video.addEventListener("dblclick", () => this.toggleFullscreen());
    this.volume.addEventListener("input", () => this.setVolume(Number(this.volume.value) / 100));
    document.addEventListener("keydown", (event) => this.key(event));
  }

  show(now: Snapshot): void {
    const { short, notice } = words(now.state, now.stream);
    document.documentElement.dataset["state"] = now.state;
    setText("state-text", short);
    setText("name", now.stream);
    setText("notice-text", notice);
    element("notice").hidden = notice === "";
    setText("announced", notice || short);
    setText("delay", now.latencyMs === null ? "" : `${delay(now.latencyMs)} behind live`);
    this.showControls(now);
    this.showDetails(now);
  }

  /** For a browser that cannot play the stream at all. */
  showUnsupported(): void {
    const notice = "This browser can play neither Media Source Extensions nor HLS. Try a newer one.";
    setText("state-text", "Not supported");
    setText("notice-text", notice);
    setText("announced", notice);
    element("notice").hidden = false;
    element("spinner").hidden = true;
  }

  private showControls(now: Snapshot): void {
    const playing = now.state === "live" || now.state === "stalled";
    const paused = now.state === "paused";
    this.playButton.disabled = !playing && !paused;
    setText("toggle-play", paused ? "Play" : "Pause");
    setText("toggle-sound", now.muted ? "Sound on" : "Sound off");
    element("start").hidden = !paused;
    element("unmute").hidden = !now.muted || !playing;
    element<HTMLButtonElement>("go-live").disabled = !playing && !paused;
  }

  private showDetails(now: Snapshot): void {
    setText("d-latency", delay(now.latencyMs));
    setText("d-picture", picture(now.width, now.height, now.fps));
    setText("d-bitrate", bitrate(now.bitrateBps));
    setText("d-buffer", now.engine === "WebRTC" ? UNKNOWN : `${now.bufferS.toFixed(1)} s`);
    setText("d-lost", losses(now));
    setText("d-dropped", count(now.droppedFrames));
    setText("d-recoveries", now.recoveries === 1 ? "once" : `${now.recoveries} times`);
    setText("d-engine", playedBy(now));
    setText("way", way(now));
    element("fallback").hidden = now.fallback === "";
    setText("fallback", now.fallback === "" ? "" : `Not by ${now.fallback}.`);
  }

  private togglePlay(): void {
    // `autoplay` is the viewer's wish to see the stream: it decides whether a stream opened again plays.
    this.video.autoplay = this.video.paused;
    if (this.video.paused) this.video.play().catch(() => undefined);
    else this.video.pause();
  }

  private toggleSound(): void {
    this.video.muted = !this.video.muted;
    if (!this.video.muted && this.video.volume === 0) this.setVolume(1);
  }

  private setVolume(share: number): void {
    this.video.volume = share;
    this.video.muted = share === 0;
    this.volume.value = String(Math.round(share * 100));
  }

  private goLive(): void {
    this.wishes.goLive();
    if (this.video.paused) this.togglePlay();
  }

  private toggleFullscreen(): void {
    const video = this.video as HTMLVideoElement & { webkitEnterFullscreen?: () => void };
    if (document.fullscreenElement !== null) void document.exitFullscreen();
    else if (this.player.requestFullscreen) this.player.requestFullscreen().catch(() => undefined);
    else video.webkitEnterFullscreen?.();
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onControl = event.target instanceof Element && event.target.closest("button, summary, input") !== null;
    const actions: Record<string, () => void> = {
      k: () => this.togglePlay(),
      m: () => this.toggleSound(),
      l: () => this.goLive(),
      f: () => this.toggleFullscreen(),
      d: () => element<HTMLDetailsElement>("details").toggleAttribute("open"),
    };
    // On a control the space bar belongs to the control.
    if (!onControl) actions[" "] = () => this.togglePlay();
    const action = actions[event.key];
    if (action === undefined) return;
    event.preventDefault();
    action();
  }

  private onClick(id: string, action: () => void): void {
    element(id).addEventListener("click", action);
  }
}

/** The protocol, in a word for the status line. */
function way(now: Snapshot): string {
  if (now.engine === null) return "";
  return now.engine === "WebRTC" ? "WebRTC" : "HLS";
}

function playedBy(now: Snapshot): string {
  if (now.engine === null || now.engine === "WebRTC") return now.engine ?? UNKNOWN;
  return now.engine === "native" ? "HLS by the browser" : `HLS by ${now.engine}`;
}

function losses(now: Snapshot): string {
  if (now.packetsLost === null) return UNKNOWN;
  return now.lossShare === null ? count(now.packetsLost) : `${count(now.packetsLost)} (${percent(now.lossShare * 100)})`;
}

/** Writes only what changed, so that a screen reader is told once. */
function setText(id: string, text: string): void {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
}
