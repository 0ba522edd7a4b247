/** The nodes of the cluster. */

import { useMemo } from "preact/hooks";
import { bitrate, bytes, count, mpx, percent } from "../shared/format";
import type { ClusterNode, NodeState } from "./api";
import { Age, Bar, Pill } from "./parts";
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
const texts = (node: ClusterNode): string[] => [node.id, node.group, node.http, node.state, node.version, ...node.roles, node.problem ?? ""];

export function Nodes({ nodes, received_ms }: { nodes: readonly ClusterNode[]; received_ms: number }) {
  const columns = useMemo(() => columnsAt(received_ms, nodes.some(({ gpus }) => gpus.length > 0)), [nodes, received_ms]);
  const empty = (
    <p>
      No node has joined yet. Start one with <code>sluicegate run --config FILE</code>, its <code>[cluster]</code> naming the same store as
      here, and it appears by itself.
    </p>
  );
  return <Table title="Nodes" rows={nodes} columns={columns} id={id} texts={texts} sort={{ column: "id", descending: false }} empty={empty} />;
}

function columnsAt(received_ms: number, gpus: boolean): Column<ClusterNode>[] {
  const columns: Column<ClusterNode>[] = [
    { key: "id", title: "Node", value: id, cell: (node) => <Name node={node} /> },
    { key: "state", title: "State", value: (node) => node.state, cell: (node) => <State node={node} /> },
    {
      key: "heartbeat",
      title: "Heartbeat",
      figure: true,
      value: (node) => node.heartbeat_age_ms,
      cell: (node) => <Age age_ms={node.heartbeat_age_ms} since_ms={received_ms} warn_ms={LATE_MS} />,
    },
    { key: "room", title: "Room, Mpx/s", value: (node) => node.free_mpx, cell: (node) => <Room node={node} /> },
    { key: "cpu", title: "CPU", value: (node) => node.cpu, cell: (node) => <Bar used={node.cpu} total={100} label={percent(node.cpu)} /> },
    { key: "memory", title: "Memory", value: (node) => node.memory_used_bytes, cell: (node) => <Memory node={node} /> },
  ];
  if (gpus) columns.push({ key: "gpu", title: "GPU", value: busiestGpu, cell: (node) => <Gpus node={node} /> });
  columns.push(
    { key: "egress", title: "Egress", figure: true, value: (node) => node.egress_bps, cell: (node) => bitrate(node.egress_bps) },
    { key: "viewers", title: "Viewers", figure: true, value: (node) => node.viewers, cell: (node) => count(node.viewers) },
    { key: "publishes", title: "Publishes", figure: true, value: (node) => node.publishes, cell: (node) => count(node.publishes) },
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

function busiestGpu(node: ClusterNode): number | null {
  return node.gpus.length === 0 ? null : Math.max(...node.gpus.map(({ gpu, encoder, decoder }) => Math.max(gpu, encoder, decoder)));
}

function Gpus({ node }: { node: ClusterNode }) {
  if (node.gpus.length === 0) return <span class="soft">none</span>;
  return (
    <span class="name">
      {node.gpus.map((gpu, index) => (
        <span key={index} class="small" title={`${gpu.name}, decoder ${percent(gpu.decoder)}, memory ${bytes(gpu.memory_used)} of ${bytes(gpu.memory_total)}`}>
          <Bar
            used={Math.max(gpu.gpu, gpu.encoder, gpu.decoder)}
            total={100}
            label={`${percent(gpu.gpu)}, enc. ${percent(gpu.encoder)}`}
          />
        </span>
      ))}
    </span>
  );
}
