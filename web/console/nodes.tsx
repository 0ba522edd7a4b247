/** The nodes of the cluster. */

import { bitrate, bytes, count, mpx, percent } from "../shared/format";
import type { ClusterNode, Gpu, NodeState } from "./api";
import { Age, Bar, Pill } from "./parts";
import { Orders } from "./orders";
import type { Page, TableQuery } from "./rows";
import { Table, type Column } from "./table";

const STATES: Record<NodeState, { tone: "good" | "busy" | "bad" | "idle"; words: string }> = {
  serving: { tone: "good", words: "serving" },
  joining: { tone: "busy", words: "joining" },
  draining: { tone: "busy", words: "draining" },
  gone: { tone: "bad", words: "gone" },
  silent: { tone: "bad", words: "silent" },
  unreadable: { tone: "bad", words: "unreadable" },
};

/** Heartbeats come once a second: from here on one is missing. */
const LATE_MS = 3000;

const id = (node: ClusterNode): string => node.id;

interface Props {
  page: Page<ClusterNode>;
  query: TableQuery;
  onQuery: (query: TableQuery) => void;
  received_ms: number;
}

export function Nodes({ page, query, onQuery, received_ms }: Props) {
  const gpus = page.rows.some((node) => node.gpus.length > 0);
  const empty = (
    <p>
      No node has joined yet. Start one with <code>sluicegate run --config FILE</code>, its <code>[cluster]</code> naming the same store as
      here, and it appears by itself.
    </p>
  );
  return <Table title="Nodes" page={page} columns={columnsAt(received_ms, gpus)} id={id} query={query} onQuery={onQuery} empty={empty} />;
}

function columnsAt(received_ms: number, gpus: boolean): Column<ClusterNode>[] {
  const columns: Column<ClusterNode>[] = [
    { key: "id", title: "Node", cell: (node) => <Name node={node} /> },
    { key: "state", title: "State", cell: (node) => <State node={node} /> },
    {
      key: "heartbeat",
      title: "Heartbeat",
      figure: true,
      cell: (node) => <Age age_ms={node.heartbeat_age_ms} since_ms={received_ms} warn_ms={LATE_MS} />,
    },
    { key: "free", title: "Room, Mpx/s", cell: (node) => <Room node={node} /> },
    { key: "cpu", title: "CPU", cell: (node) => <Bar used={node.cpu} total={100} label={percent(node.cpu)} /> },
    { key: "memory", title: "Memory", cell: (node) => <Memory node={node} /> },
  ];
  if (gpus) columns.push({ key: "gpu", title: "GPU", unsorted: true, cell: (node) => <Gpus node={node} /> });
  columns.push(
    { key: "egress", title: "Egress", figure: true, cell: (node) => bitrate(node.egress_bps) },
    { key: "viewers", title: "Viewers", figure: true, cell: (node) => count(node.viewers) },
    { key: "publishes", title: "Publishes", figure: true, cell: (node) => count(node.publishes) },
    { key: "orders", title: "Orders", unsorted: true, cell: (node) => <Orders key={node.id} node={node} /> },
  );
  return columns;
}

function Name({ node }: { node: ClusterNode }) {
  return (
    <span class="name">
      <strong>{node.id}</strong>
      <span class="soft">
        {node.roles.join(", ")} · {node.group}
      </span>
      <span class="soft small">
        {node.http} · {node.version}
      </span>
    </span>
  );
}

function State({ node }: { node: ClusterNode }) {
  const { tone, words } = STATES[node.state] ?? { tone: "idle", words: String(node.state) };
  return (
    <span class="name">
      <Pill tone={tone}>{words}</Pill>
      {node.problem !== null && <span class="problem small">{node.problem}</span>}
    </span>
  );
}

/** How much of the node's encoding capacity is taken; the words say what is free. */
function Room({ node }: { node: ClusterNode }) {
  const { capacity_mpx, free_mpx } = node;
  const used = capacity_mpx === null || free_mpx === null ? null : capacity_mpx - free_mpx;
  return <Bar used={used} total={capacity_mpx} label={`${mpx(free_mpx)} free of ${mpx(capacity_mpx)}`} />;
}

function Memory({ node }: { node: ClusterNode }) {
  const { memory_used_bytes: used, memory_total_bytes: total } = node;
  return <Bar used={used} total={total} label={`${bytes(used)} of ${bytes(total)}`} />;
}

/** What is said of a graphics card when it is pointed at. */
export function aboutCard(gpu: Omit<Gpu, "state">): string {
  return `${gpu.name}, decoder ${percent(gpu.decoder)}, memory ${bytes(gpu.memoryUsed)} of ${bytes(gpu.memoryTotal)}`;
}

function Gpus({ node }: { node: ClusterNode }) {
  if (node.gpus.length === 0) return <span class="soft">none</span>;
  return (
    <span class="name">
      {node.gpus.map((gpu, index) => (
        <span key={index} class="small" title={aboutCard(gpu)}>
          <Bar
            used={Math.max(gpu.gpu, gpu.encoder, gpu.decoder)}
            total={100}
            label={`${percent(gpu.gpu)}, enc. ${percent(gpu.encoder)}`}
          />
          {gpu.state !== "good" && <span class="warn">{gpu.state}</span>}
        </span>
      ))}
    </span>
  );
}
