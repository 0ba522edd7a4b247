/** The page `#/cluster`: how the cluster is, at a glance and in full. */

import { bitrate, count, mpx } from "../shared/format";
import type { Cluster } from "./api";
import type { Feed } from "./feed";
import { Nodes } from "./nodes";
import { Age, Banner } from "./parts";
import { Streams } from "./streams";
import { totals } from "./totals";

/** The state is refreshed every second: from here on it counts as old. */
const OLD_MS = 5000;

export function Overview({ feed }: { feed: Feed }) {
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
        <Nodes nodes={cluster.nodes} received_ms={received_ms} />
        <Streams streams={cluster.streams} player_base={cluster.player_base} received_ms={received_ms} />
      </main>
    </>
  );
}

function Header({ cluster, received_ms }: { cluster: Cluster; received_ms: number }) {
  return (
    <header>
      <h1>Sluicegate</h1>
      <p class="soft">
        {cluster.node} · {cluster.version} · {cluster.cluster === "embedded" ? "embedded store" : `store: ${cluster.cluster}`}
      </p>
      <p class="state-age">
        State <Age age_ms={cluster.state_age_ms} since_ms={received_ms} warn_ms={OLD_MS} /> old
      </p>
    </header>
  );
}

function Totals({ cluster }: { cluster: Cluster }) {
  const sum = totals(cluster);
  const figures: [string, string, string][] = [
    ["Nodes serving", count(sum.nodes_serving), `of ${count(cluster.nodes.length)}`],
    ["Streams live", count(sum.streams_live), cluster.streams.length > sum.streams_live ? `of ${count(cluster.streams.length)}` : ""],
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
      {connection === "refused" && <Banner tone="bad">This node does not let you in: its admin address asks for a token.</Banner>}
      {connection === "unreadable" && <Banner tone="bad">The answer is not the state of a cluster.</Banner>}
    </main>
  );
}
