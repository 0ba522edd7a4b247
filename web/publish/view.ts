/** The publish page's elements: what they show, and what its user does with them. */

import { bitrate, count, duration, percent, picture, UNKNOWN } from "../shared/format";
import type { Snapshot } from "./main";
import type { Choice, Device } from "./sources";
import { words } from "./words";

/** What a user can ask for. */
export interface Wishes {
  /** Capture what is chosen. */
  capture(): void;
  start(): void;
  stop(): void;
}

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found as T;
}

export class View {
  private readonly video = element<HTMLVideoElement>("preview");
  private readonly name = element<HTMLInputElement>("name");
  private readonly cameras = element<HTMLSelectElement>("camera");
  private readonly microphones = element<HTMLSelectElement>("microphone");
  private readonly height = element<HTMLSelectElement>("height");
  private readonly sound = element<HTMLInputElement>("sound");
  private source: Choice["picture"] = "camera";
  private isOn = false;

  constructor(stream: string, canShareScreen: boolean, private readonly wishes: Wishes) {
    this.name.value = stream;
    element<HTMLButtonElement>("use-screen").hidden = !canShareScreen;
    this.onClick("use-camera", () => this.choose("camera"));
    this.onClick("use-screen", () => this.choose("screen"));
    this.onClick("go", () => (this.isOn ? wishes.stop() : wishes.start()));
    for (const select of [this.cameras, this.microphones, this.height, this.sound]) {
      select.addEventListener("change", () => this.video.srcObject !== null && wishes.capture());
    }
  }

  get stream(): string {
    return this.name.value.trim();
  }

  choice(): Choice {
    return {
      picture: this.source,
      camera: this.cameras.value || null,
      microphone: this.microphones.value || null,
      withSound: this.sound.checked,
      height: Number(this.height.value),
    };
  }

  preview(media: MediaStream | null): void {
    this.video.srcObject = media;
    this.video.classList.toggle("mirrored", media !== null && this.source === "camera");
  }

  /** Fills the lists of devices, keeping what is chosen. */
  offer(cameras: readonly Device[], microphones: readonly Device[]): void {
    fill(this.cameras, cameras, "Camera");
    fill(this.microphones, microphones, "Microphone");
  }

  show(now: Snapshot): void {
    this.isOn = now.state === "connecting" || now.state === "live" || now.state === "reconnecting";
    const { short, notice } = words(now.state, now.stream, now.reason);
    document.documentElement.dataset["state"] = now.state;
    document.title = now.stream === "" ? "Publish · Sluicegate" : `${now.stream} · publish · Sluicegate`;
    setText("state-text", short);
    setText("notice-text", notice);
    setText("announced", notice || short);
    element("notice").hidden = notice === "";
    setText("live-for", now.liveForMs === null ? "" : duration(now.liveForMs));
    this.showControls(now);
    this.showDetails(now);
  }

  private showControls(now: Snapshot): void {
    const cannot = now.state === "insecure" || now.state === "unsupported";
    const go = element<HTMLButtonElement>("go");
    go.disabled = !this.isOn && (!now.hasMedia || now.stream === "");
    setText("go", this.isOn ? "Stop" : "Go live");
    for (const id of ["use-camera", "use-screen", "camera", "microphone", "height", "sound"]) {
      element<HTMLButtonElement>(id).disabled = this.isOn || cannot;
    }
    this.name.disabled = this.isOn;
    for (const picture of ["camera", "screen"] as const) {
      const chosen = now.hasMedia && this.source === picture;
      element(`use-${picture}`).setAttribute("aria-pressed", String(chosen));
    }
    element("camera-choice").hidden = this.source === "screen" && now.hasMedia;
    const watch = element<HTMLAnchorElement>("watch");
    watch.hidden = now.state !== "live";
    if (watch.getAttribute("href") !== now.watch) watch.setAttribute("href", now.watch);
  }

  private showDetails(now: Snapshot): void {
    const { figures } = now;
    setText("d-picture", picture(figures?.width, figures?.height, figures?.fps));
    setText("d-bitrate", bitrate(figures?.bitrateBps));
    setText("d-lost", figures === null || figures.lossShare === null ? UNKNOWN : `${count(figures.packetsLost)} (${percent(figures.lossShare * 100)})`);
    setText("d-rtt", figures === null || figures.roundTripMs === null ? UNKNOWN : `${Math.round(figures.roundTripMs)} ms`);
    setText("d-reconnects", now.reconnects === 1 ? "once" : `${now.reconnects} times`);
  }

  private choose(source: Choice["picture"]): void {
    this.source = source;
    this.wishes.capture();
  }

  private onClick(id: string, action: () => void): void {
    element(id).addEventListener("click", action);
  }
}

function fill(select: HTMLSelectElement, devices: readonly Device[], kind: string): void {
  const chosen = select.value;
  const options = devices.map(({ id, label }, index) => new Option(label || `${kind} ${index + 1}`, id));
  select.replaceChildren(...(options.length > 0 ? options : [new Option(`Default ${kind.toLowerCase()}`, "")]));
  if (devices.some(({ id }) => id === chosen)) select.value = chosen;
}

/** Writes only what changed, so that a screen reader is told once. */
function setText(id: string, text: string): void {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
}
