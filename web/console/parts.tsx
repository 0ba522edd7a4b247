/** Small things that several views show. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { duration, percent } from "../shared/format";

const TICK_MS = 1000;
const listeners = new Set<() => void>();
let timer = 0;

/** Renders the component again once a second; all of a page share one timer. */
function useTick(): number {
  const [, setTick] = useState(0);
  useEffect(() => {
    const listener = (): void => setTick((tick) => tick + 1);
    listeners.add(listener);
    if (listeners.size === 1) timer = window.setInterval(() => listeners.forEach((each) => each()), TICK_MS);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) window.clearInterval(timer);
    };
  }, []);
  return performance.now();
}

/** An age that goes on ticking between two answers. `since_ms` is when `age_ms` came in. */
export function Age({ age_ms, since_ms, warn_ms }: { age_ms: number | null; since_ms: number; warn_ms?: number }) {
  const now_ms = useTick();
  if (age_ms === null) return <span class="age">–</span>;
  const age = age_ms + Math.max(0, now_ms - since_ms);
  return <span class={warn_ms !== undefined && age > warn_ms ? "age warn" : "age"}>{duration(age)}</span>;
}

/** A share of a whole as a bar with its words beside it. `used` of `total`; more than `high` percent is coloured. */
export function Bar({ used, total, label, high = 85 }: { used: number | null; total: number | null; label: string; high?: number }) {
  if (used === null || total === null || total <= 0) return <span class="soft">–</span>;
  const share = Math.min(100, Math.max(0, (100 * used) / total));
  return (
    <span class="meter">
      <span class="words">{label}</span>
      <progress class={share > high ? "bar high" : "bar"} max={100} value={share} aria-label={percent(share)} />
    </span>
  );
}

export function Pill({ tone, children }: { tone: "good" | "busy" | "bad" | "idle"; children: ComponentChildren }) {
  return <span class={`pill ${tone}`}>{children}</span>;
}

export function Banner({ tone, children }: { tone: "busy" | "bad"; children: ComponentChildren }) {
  return (
    <p class={`banner ${tone}`} role={tone === "bad" ? "alert" : "status"}>
      {children}
    </p>
  );
}
