/** Camera, screen and microphone. */

import type { Trouble } from "./session";

export interface Choice {
  picture: "camera" | "screen";
  /** `null`: the browser's own choice. */
  camera: string | null;
  /** `null`: the browser's own choice. */
  microphone: string | null;
  withSound: boolean;
  /** Lines of the picture, at most. */
  height: number;
}

export interface Device {
  id: string;
  label: string;
}

/** What this page cannot get over: no secure context (W3C Media Capture section 9.3), or no WebRTC. */
export function whyNot(): Trouble | null {
  if (!window.isSecureContext) return "insecure";
  const has = typeof RTCPeerConnection !== "undefined" && navigator.mediaDevices?.getUserMedia !== undefined;
  return has ? null : "unsupported";
}

export function canShareScreen(): boolean {
  return navigator.mediaDevices?.getDisplayMedia !== undefined;
}

/** Captures what is chosen. Rejects with a `DOMException`, which `troubleOf` reads. */
export async function capture(choice: Choice): Promise<MediaStream> {
  const size = { height: { ideal: choice.height }, frameRate: { ideal: 30, max: 60 } };
  const audio = choice.withSound ? { ...exact(choice.microphone), echoCancellation: choice.picture === "camera" } : false;
  if (choice.picture === "camera") {
    const width = { ideal: Math.round((choice.height * 16) / 9) };
    return navigator.mediaDevices.getUserMedia({ video: { ...size, width, ...exact(choice.camera) }, audio });
  }
  const screen = await navigator.mediaDevices.getDisplayMedia({ video: size, audio: choice.withSound });
  if (choice.withSound && screen.getAudioTracks().length === 0) {
    // The screen has no sound of its own: the microphone's is what a presenter has to say.
    const voice = await navigator.mediaDevices.getUserMedia({ audio }).catch((error: unknown) => {
      screen.getTracks().forEach((track) => track.stop());
      throw error;
    });
    voice.getAudioTracks().forEach((track) => screen.addTrack(track));
  }
  return screen;
}

function exact(id: string | null): { deviceId?: { exact: string } } {
  return id === null ? {} : { deviceId: { exact: id } };
}

/** The devices of one kind. They have names only once the user has allowed one. */
export async function devices(kind: "videoinput" | "audioinput"): Promise<Device[]> {
  const all = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  const ofKind = all.filter((device) => device.kind === kind && device.deviceId !== "");
  return ofKind.map(({ deviceId, label }) => ({ id: deviceId, label }));
}

/** Why nothing was captured, by the error's name (W3C Media Capture section 10.2). */
export function troubleOf(error: unknown): Trouble {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotFoundError" || name === "OverconstrainedError") return "no-device";
  if (name === "NotReadableError" || name === "AbortError") return "device-busy";
  return "blocked";
}
