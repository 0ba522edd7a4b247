/** The streams of the cluster. */

import { useMemo } from "preact/hooks";
import { bitrate, count, picture } from "../shared/format";
import { playerUrl, type ClusterStream } from "./api";
import { Age, Pill } from "./parts";
import { Table, type Column } from "./table";

const id = (stream: ClusterStream): string => stream.key;
const texts = (stream: ClusterStream): string[] => [stream.key, stream.origin ?? "no origin", stream.live ? "live" : "not live"];

interface Props {
  streams: readonly ClusterStream[];
  player_base: string | null | undefined;
  received_ms: number;
}

export function Streams({ streams, player_base, received_ms }: Props) {
  const columns = useMemo(() => columnsAt(received_ms, player_base), [received_ms, player_base]);
  return (
    <Table
      title="Streams"
      rows={streams}
      columns={columns}
      id={id}
      texts={texts}
      sort={{ column: "viewers", descending: true }}
      empty={<FirstStream player_base={player_base} />}
    />
  );
}

function columnsAt(received_ms: number, player_base: string | null | undefined): Column<ClusterStream>[] {
  return [
    { key: "key", title: "Stream", value: id, cell: (stream) => <Name stream={stream} player_base={player_base} /> },
    {
      key: "live",
      title: "State",
      value: (stream) => !stream.live,
      cell: (stream) => (stream.live ? <Pill tone="good">live</Pill> : <Pill tone="idle">not live</Pill>),
    },
    { key: "origin", title: "Origin", value: (stream) => stream.origin, cell: (stream) => stream.origin ?? <span class="problem">no origin</span> },
    { key: "viewers", title: "Viewers", figure: true, value: (stream) => stream.viewers, cell: (stream) => count(stream.viewers) },
    { key: "bitrate", title: "Bit rate", figure: true, value: (stream) => stream.bitrate_bps, cell: (stream) => bitrate(stream.bitrate_bps) },
    {
      key: "picture",
      title: "Picture",
      figure: true,
      value: (stream) => (stream.width ?? 0) * (stream.height ?? 0) || null,
      cell: (stream) => picture(stream.width, stream.height, stream.fps),
    },
    {
      key: "age",
      title: "On air for",
      figure: true,
      value: (stream) => stream.age_ms,
      cell: (stream) => <Age age_ms={stream.live ? stream.age_ms : null} since_ms={received_ms} />,
    },
    { key: "epoch", title: "Epoch", figure: true, value: (stream) => stream.epoch, cell: (stream) => String(stream.epoch) },
    { key: "claims", title: "Claims", figure: true, value: (stream) => stream.claims, cell: (stream) => count(stream.claims) },
  ];
}

function Name({ stream, player_base }: { stream: ClusterStream; player_base: string | null | undefined }) {
  const url = playerUrl(player_base, stream.key);
  if (url === null) return <strong>{stream.key}</strong>;
  return (
    <a href={url} target="_blank" rel="noopener noreferrer" title={`Watch ${stream.key}`}>
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
