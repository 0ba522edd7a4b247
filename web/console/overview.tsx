/** The page `#/cluster`: how the cluster is, at a glance and in full. */

import { bitrate, count, mpx } from "../shared/format";
import type { Shown, Update } from "./api";
import type { Feed } from "./feed";
import { LogOut } from "./log-out";
import { Nodes } from "./nodes";
import { Age, Banner } from "./parts";
import { CLUSTER_ROUTE } from "./routes";
import type { ConsoleQuery } from "./rows";
import { Streams } from "./streams";
import { Timeline } from "./timeline";

/** The state is refreshed every second: from here on it counts as old. */
const OLD_MS = 5000;

interface Props {
  feed: Feed;
  query: ConsoleQuery;
  onQuery: (query: ConsoleQuery) => void;
}

export function Overview({ feed, query, onQuery }: Props) {
  const { cluster, received_ms, connection } = feed;
  if (cluster === null) return <Nothing connection={connection} />;
  return (
    <>
      <Header cluster={cluster} received_ms={received_ms} />
      <main>
        {connection === "lost" && <Banner tone="busy">Connection lost, reconnecting. Below is the last that was received.</Banner>}
        {connection === "unreadable" && <Banner tone="busy">What comes in is not the state of a cluster. Below is the last that was.</Banner>}
        {!cluster.store_ok && (
          <Banner tone="bad">
            The store ({cluster.cluster}) does not answer. Below is the last known state,{" "}
            <Age age_ms={cluster.state_age_ms} since_ms={received_ms} /> old. What is known goes on being served.
          </Banner>
        )}
        <Totals cluster={cluster} />
        <Nodes page={cluster.nodes_page} query={query.nodes} onQuery={(nodes) => onQuery({ ...query, nodes })} received_ms={received_ms} />
        <Streams
          page={cluster.streams_page}
          query={query.streams}
          onQuery={(streams) => onQuery({ ...query, streams })}
          player_base={cluster.player_base}
          received_ms={received_ms}
        />
        <Timeline events={cluster.events} now={cluster.now} received_ms={received_ms} />
      </main>
    </>
  );
}

/** Who says what is shown, and how old it is. */
export function Header({ cluster, received_ms }: { cluster: Shown; received_ms: number }) {
  return (
    <header>
      <h1>
        <a href={CLUSTER_ROUTE}>Sluicegate</a>
      </h1>
      <p class="soft">
        {cluster.node} · {cluster.version} · {cluster.cluster === "embedded" ? "embedded store" : `store: ${cluster.cluster}`}
      </p>
      <p class="state-age">
        State <Age age_ms={cluster.state_age_ms} since_ms={received_ms} warn_ms={OLD_MS} /> old
      </p>
      {cluster.logged_in && <LogOut />}
    </header>
  );
}

function Totals({ cluster }: { cluster: Update }) {
  const sum = cluster.totals;
  const figures: [string, string, string][] = [
    ["Nodes serving", count(sum.nodes_serving), `of ${count(cluster.nodes_page.all)}`],
    ["Streams live", count(sum.streams_live), cluster.streams_page.all > sum.streams_live ? `of ${count(cluster.streams_page.all)}` : ""],
    ["Viewers", count(sum.viewers), ""],
    ["Egress", bitrate(sum.egress_bps), ""],
    ["Room to encode", mpx(sum.free_mpx), `of ${mpx(sum.capacity_mpx)} Mpx/s`],
  ];
  return (
    <dl class="totals">
      {figures.map(([title, figure, rest]) => (
        <div key={title}>
          <dt>{title}</dt>
          <dd>
            {figure} <span class="soft">{rest}</span>
          </dd>
        </div>
      ))}
    </dl>
  );
}

function Nothing({ connection }: { connection: Feed["connection"] }) {
  return (
    <main>
      <h1>Sluicegate</h1>
      {connection === "connecting" && <p role="status">Reading the state of the cluster…</p>}
      {connection === "lost" && <Banner tone="busy">Connection lost, reconnecting. Nothing has been received yet.</Banner>}
      {connection === "unreadable" && <Banner tone="bad">The answer is not the state of a cluster.</Banner>}
    </main>
  );
}
