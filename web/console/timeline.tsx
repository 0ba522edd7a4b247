/** What happened last, the newest first. */

import type { ClusterEvent } from "./api";
import { Age, Pill } from "./parts";
import { streamRoute } from "./routes";

const KINDS: Record<ClusterEvent["kind"], "good" | "busy" | "bad" | "idle"> = {
  joined: "good",
  draining: "busy",
  died: "bad",
  left: "idle",
  claimed: "good",
  moved: "busy",
  ended: "idle",
};

export function Timeline({ events, now, received_ms }: { events: readonly ClusterEvent[]; now: number; received_ms: number }) {
  return (
    <section aria-labelledby="timeline-heading">
      <div class="head">
        <h2 id="timeline-heading">Timeline</h2>
      </div>
      {events.length === 0 ? (
        <p class="empty">Nothing has happened since this node started to look.</p>
      ) : (
        <ol class="timeline">
          {events.map((event) => (
            <li key={`${event.at} ${event.kind} ${event.subject}`}>
              <span class="when">
                <Age age_ms={now - event.at} since_ms={received_ms} /> ago
              </span>
              <Pill tone={KINDS[event.kind] ?? "idle"}>{event.kind}</Pill>
              <span class="what">
                {event.subject.includes("/") ? <a href={streamRoute(event.subject)}>{event.subject}</a> : <strong>{event.subject}</strong>}
                {event.detail !== undefined && <span class="soft"> {event.detail}</span>}
              </span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}
