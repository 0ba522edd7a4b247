/** The streams of the cluster. */

import { bitrate, count, picture } from "../shared/format";
import { playerUrl, type ClusterStream } from "./api";
import { Age, Pill } from "./parts";
import type { Page, TableQuery } from "./rows";
import { streamRoute } from "./routes";
import { Table, type Column } from "./table";

const id = (stream: ClusterStream): string => stream.key;

interface Props {
  page: Page<ClusterStream>;
  query: TableQuery;
  onQuery: (query: TableQuery) => void;
  player_base: string | null | undefined;
  received_ms: number;
}

export function Streams({ page, query, onQuery, player_base, received_ms }: Props) {
  const empty = <FirstStream player_base={player_base} />;
  return <Table title="Streams" page={page} columns={columnsAt(received_ms)} id={id} query={query} onQuery={onQuery} empty={empty} />;
}

function columnsAt(received_ms: number): Column<ClusterStream>[] {
  return [
    { key: "key", title: "Stream", cell: (stream) => <Name stream={stream} /> },
    {
      key: "live",
      title: "State",
      unsorted: true,
      cell: (stream) => <State stream={stream} />,
    },
    { key: "origin", title: "Origin", cell: (stream) => stream.origin ?? <span class="problem">no origin</span> },
    { key: "viewers", title: "Viewers", figure: true, cell: (stream) => count(stream.viewers) },
    { key: "bitrate", title: "Bit rate", figure: true, cell: (stream) => bitrate(stream.bitrate_bps) },
    { key: "picture", title: "Picture", figure: true, cell: (stream) => picture(stream.width, stream.height, stream.fps) },
    {
      key: "age",
      title: "On air for",
      figure: true,
      cell: (stream) => <Age age_ms={stream.live ? stream.age_ms : null} since_ms={received_ms} />,
    },
  ];
}

function State({ stream }: { stream: ClusterStream }) {
  if (stream.problem === null) return stream.live ? <Pill tone="good">live</Pill> : <Pill tone="idle">not live</Pill>;
  return (
    <span class="name">
      <Pill tone="bad">unreadable</Pill>
      <span class="problem small">{stream.problem}</span>
    </span>
  );
}

function Name({ stream }: { stream: ClusterStream }) {
  return (
    <a href={streamRoute(stream.key)} title={`Where ${stream.key} comes from and goes to`}>
      {stream.key}
    </a>
  );
}

/** How to publish the first stream, with this cluster's own address in it. */
function FirstStream({ player_base }: { player_base: string | null | undefined }) {
  const url = playerUrl(player_base, "live/demo");
  const host = url === null ? location.hostname : new URL(url).hostname;
  return (
    <>
      <p>
        Nothing is published yet. In OBS, choose a custom service with the server <code>rtmp://{host}/live</code> and the stream key{" "}
        <code>demo</code>; or send a test picture with ffmpeg:
      </p>
      <pre tabIndex={0}>
        {`ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440 \\
  -c:v libx264 -preset veryfast -g 60 -pix_fmt yuv420p -b:v 2500k -c:a aac \\
  -f flv rtmp://${host}/live/demo`}
      </pre>
      {url !== null && (
        <p>
          It then plays at <a href={url}>{url}</a>.
        </p>
      )}
    </>
  );
}
