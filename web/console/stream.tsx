/** The page of one stream: its way from its origin to its edges, its renditions, its viewers, and why it is there. */

import { useEffect, useState } from "preact/hooks";
import { bitrate, count, duration, mpx, percent, picture } from "../shared/format";
import { playerUrl, readStreamPage, type ClusterNode, type Ladder, type Placed, type StreamPage, type Why } from "./api";
import { Header } from "./overview";
import { Age, Banner, Pill } from "./parts";
import { CLUSTER_ROUTE } from "./routes";
import { Timeline } from "./timeline";

const EVERY_MS = 1000;

const BECAUSE: Record<string, string> = {
  has_the_stream: "it had the stream",
  least_loaded: "it would be the least loaded for its size",
  least_loaded_as_known: "it was the least loaded as far as was known: the store did not answer",
};

const REASONS: Record<string, string> = {
  has_the_stream: "has the stream, and lives",
  ams_has_the_stream: "an Ant Media Server node, has the stream",
  least_loaded: "would be the least loaded for its size",
  ams_less_loaded: "an Ant Media Server node, is the least loaded",
  no_room: "Nobody has room for it.",
};

interface Seen {
  page: StreamPage | null;
  /** When it came in, by `performance.now()`. */
  received_ms: number;
  trouble: "none" | "reading" | "unknown" | "lost";
}

function useStream(name: string): Seen {
  const [seen, setSeen] = useState<Seen>({ page: null, received_ms: 0, trouble: "reading" });
  useEffect(() => {
    let stopped = false;
    let timer = 0;
    const look = async (): Promise<void> => {
      const [page, trouble] = await read(name);
      if (stopped) return;
      setSeen((old) => (page === null ? { ...old, trouble } : { page, received_ms: performance.now(), trouble }));
      timer = window.setTimeout(() => void look(), EVERY_MS);
    };
    void look();
    return () => {
      stopped = true;
      window.clearTimeout(timer);
    };
  }, [name]);
  return seen;
}

async function read(name: string): Promise<[StreamPage | null, Seen["trouble"]]> {
  try {
    const response = await fetch(`/api/v1/streams/${name.split("/").map(encodeURIComponent).join("/")}`, { cache: "no-store" });
    if (response.status === 404) return [null, "unknown"];
    const page = response.ok ? readStreamPage(await response.json()) : null;
    return [page, page === null ? "lost" : "none"];
  } catch {
    return [null, "lost"];
  }
}

export function Stream({ name }: { name: string }) {
  const { page, received_ms, trouble } = useStream(name);
  if (page === null) {
    return (
      <main>
        <h1>{name}</h1>
        {trouble === "reading" && <p role="status">Reading…</p>}
        {trouble === "unknown" && <p>Nobody publishes it, and nobody did lately.</p>}
        {trouble === "lost" && <Banner tone="busy">The node does not answer; trying again.</Banner>}
        <p>
          <a href={CLUSTER_ROUTE}>The cluster</a>
        </p>
      </main>
    );
  }
  const { stream, player_base } = page;
  const url = playerUrl(player_base, stream.key);
  return (
    <>
      <Header cluster={page} received_ms={received_ms} />
      <main>
        {trouble !== "none" && <Banner tone="busy">{trouble === "unknown" ? "The stream is no longer known." : "Connection lost, trying again."} Below is the last that was received.</Banner>}
        <section aria-labelledby="stream-heading">
          <div class="head">
            <h2 id="stream-heading">
              {stream.key} {stream.live ? <Pill tone="good">live</Pill> : <Pill tone="idle">not live</Pill>}
            </h2>
            {url !== null && (
              <a href={url} target="_blank" rel="noopener noreferrer">
                Watch
              </a>
            )}
          </div>
          <Figures page={page} received_ms={received_ms} />
        </section>
        {page.renditions.length + page.ladder.givenUp.length > 1 && <LadderState ladder={page.ladder} />}
        <Path page={page} />
        {page.placed !== null && <PlacedThere placed={page.placed} now={page.now} />}
        {page.why !== null && <Reasons why={page.why} />}
        <Timeline events={page.events} now={page.now} received_ms={received_ms} />
      </main>
    </>
  );
}

function Figures({ page: { stream, renditions, ladder }, received_ms }: { page: StreamPage; received_ms: number }) {
  return (
    <dl class="totals">
      <div>
        <dt>Viewers</dt>
        <dd>{count(stream.viewers)}</dd>
      </div>
      <div>
        <dt>On air for</dt>
        <dd>
          <Age age_ms={stream.live ? stream.age_ms : null} since_ms={received_ms} />
        </dd>
      </div>
      <div>
        <dt>Comes in with</dt>
        <dd>{bitrate(stream.bitrate_bps)}</dd>
      </div>
      <div>
        <dt>Picture</dt>
        <dd class="words">{picture(stream.width, stream.height, stream.fps)}</dd>
      </div>
      <div>
        <dt>Renditions</dt>
        <dd class="words">{renditions.join(", ") || "–"}</dd>
      </div>
      {ladder.givenUp.length > 0 && (
        <div>
          <dt>Given up</dt>
          <dd class="words">
            {ladder.givenUp.join(", ")} <Pill tone="bad">encoders are late</Pill>
          </dd>
        </div>
      )}
      <div>
        <dt>Claims</dt>
        <dd>
          {count(stream.claims)} <span class="soft small">epoch {stream.epoch}</span>
        </dd>
      </div>
    </dl>
  );
}

function LadderState({ ladder }: { ladder: Ladder }) {
  return (
    <section aria-labelledby="ladder-heading">
      <div class="head">
        <h2 id="ladder-heading">Its ladder</h2>
      </div>
      <dl class="totals">
        <div>
          <dt>Behind the source</dt>
          <dd>{duration(ladder.lagMs)}</dd>
        </div>
        <div>
          <dt>Decoding</dt>
          <dd>{percent(ladder.decodePercent)}</dd>
        </div>
        <div>
          <dt>Scaling</dt>
          <dd>{percent(ladder.scalePercent)}</dd>
        </div>
        <div>
          <dt>Encoding</dt>
          <dd>
            {percent(ladder.encodePercent)} <span class="soft small">of a processor</span>
          </dd>
        </div>
        <div>
          <dt>Frames passed over</dt>
          <dd>{count(ladder.framesLost)}</dd>
        </div>
        <div>
          <dt>Restarts</dt>
          <dd>{count(ladder.restarts)}</dd>
        </div>
      </dl>
    </section>
  );
}

function Path({ page }: { page: StreamPage }) {
  return (
    <section aria-labelledby="path-heading">
      <div class="head">
        <h2 id="path-heading">Its way</h2>
      </div>
      <ol class="path">
        <li>
          <span class="soft">Origin</span>
          {page.origin === null ? <strong>{page.stream.origin ?? "none"}</strong> : <Stop node={page.origin} />}
        </li>
        <li>
          <span class="soft">Edges, the first one first</span>
          {page.edges.length === 0 && <span>None is known.</span>}
          {page.edges.map((edge) => (
            <Stop key={edge.id} node={edge} />
          ))}
        </li>
      </ol>
    </section>
  );
}

function Stop({ node }: { node: ClusterNode }) {
  return (
    <span class="stop">
      <strong>{node.id}</strong> <Pill tone={node.state === "serving" ? "good" : node.state === "draining" ? "busy" : "bad"}>{node.state}</Pill>
      <span class="soft small">
        {node.http} · {count(node.viewers)} viewers · {bitrate(node.egress_bps)} · CPU {percent(node.cpu)}
      </span>
    </span>
  );
}

/** What was seen when the stream was placed where it is. */
function PlacedThere({ placed, now }: { placed: Placed; now: number }) {
  return (
    <section aria-labelledby="placed-heading">
      <div class="head">
        <h2 id="placed-heading">Why it was placed there</h2>
      </div>
      <p class="why">
        Placed on <strong>{placed.candidates[0]?.node ?? "nobody"}</strong> {duration(Math.max(0, now - placed.at))} ago by{" "}
        <strong>{placed.by}</strong>, because {BECAUSE[placed.because] ?? placed.because}, of {count(placed.of)}{" "}
        {placed.of === 1 ? "origin" : "origins"}. As they were then:
      </p>
      <Origins
        label="Origins when it was placed"
        titles={["Room, Mpx/s", "CPU", "Heartbeat"]}
        rows={placed.candidates.map((seen) => ({
          node: seen.node,
          cells: [
            `${mpx(seen.freeMpx)} of ${mpx(seen.capacityMpx)}`,
            percent(seen.cpu),
            duration(seen.heartbeatAgeMs),
          ],
        }))}
      />
    </section>
  );
}

function Reasons({ why: { answer } }: { why: Why }) {
  const reason = REASONS[answer.reason] ?? answer.reason;
  return (
    <section aria-labelledby="why-heading">
      <div class="head">
        <h2 id="why-heading">Where it would go now</h2>
      </div>
      <p class="why">
        {answer.origin === null ? (
          reason
        ) : (
          <>
            A publish of it goes to <strong>{answer.origin}</strong>, which {reason}.
          </>
        )}
      </p>
      <Origins
        label="Candidates"
        titles={["Verdict", "Room, Mpx/s", "CPU", "Heartbeat", "Probes"]}
        rows={answer.candidates.map((candidate) => ({
          node: candidate.node,
          cells: [
            candidate.verdict,
            mpx(candidate.free_mpx),
            percent(candidate.cpu),
            duration(candidate.heartbeat_age_ms),
            candidate.probes,
          ],
        }))}
      />
    </section>
  );
}

/** Origins, one a row; `titles` are those of the cells beside their names. */
function Origins({ label, titles, rows }: { label: string; titles: string[]; rows: { node: string; cells: string[] }[] }) {
  return (
    <table role="table" aria-label={label}>
      <thead role="rowgroup">
        <tr role="row">
          {["Origin", ...titles].map((title) => (
            <th key={title} role="columnheader" scope="col" class="soft">
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map(({ node, cells }) => (
          <tr key={node} role="row">
            <td role="cell" data-label="Origin">
              <strong>{node}</strong>
            </td>
            {titles.map((title, column) => (
              <td key={title} role="cell" data-label={title}>
                {cells[column]}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
