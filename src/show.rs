//! `sluicegate nodes`, `streams`, `why`, `drain` and `undrain`: what a node's admin listener says, as text for
//! people and JSON for programs.

use std::time::Duration;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sluicegate_cluster::admin::{ClusterModel, NodeModel, StreamModel, Without};
use sluicegate_cluster::clock::UnixMs;
use sluicegate_cluster::ids::{NodeId, StreamKey};
use sluicegate_cluster::placed::{Because, Placed};
use sluicegate_lb::why::{Answer, Reason, Why};

/// For a node on this machine to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The nodes.
pub(crate) fn nodes(admin: &str, json: bool) -> anyhow::Result<String> {
    let model = fetch(admin)?;
    if json {
        return Ok(serde_json::to_string_pretty(&model.nodes)?);
    }
    let head =
        ["NODE", "ROLES", "STATE", "ADDRESS", "HEARTBEAT", "CPU", "MEMORY", "ROOM", "PUBLISHES", "VIEWERS"];
    Ok(with_age(table(head, model.nodes.iter().map(node_row)), &model))
}

/// The live streams.
pub(crate) fn streams(admin: &str, json: bool) -> anyhow::Result<String> {
    let model = fetch(admin)?;
    if json {
        return Ok(serde_json::to_string_pretty(&model.streams)?);
    }
    if model.streams.is_empty() {
        return Ok(with_age("No stream is live.".to_owned(), &model));
    }
    let head = ["STREAM", "STATE", "ORIGIN", "EPOCH", "CLAIMS", "PICTURE", "BITRATE", "VIEWERS", "AGE"];
    Ok(with_age(table(head, model.streams.iter().map(stream_row)), &model))
}

/// What happens if `node` dies now.
pub(crate) fn without(admin: &str, node: &str, json: bool) -> anyhow::Result<String> {
    let found: Value = ask(admin, reqwest::Method::GET, &format!("/api/v1/nodes/{node}/without"))?;
    if json {
        return Ok(serde_json::to_string_pretty(&found)?);
    }
    let found: Without = serde_json::from_value(found)?;
    let rows = found.streams.iter().map(|stream| {
        let by = stream.by.as_deref().unwrap_or("nobody has room");
        [
            stream.stream.clone(),
            format!("{:.1} Mpx/s", stream.mpx),
            by.to_owned(),
            format!("{:.1} Mpx/s", stream.left_mpx),
        ]
    });
    let streams = match found.streams.is_empty() {
        true => "It has no stream.".to_owned(),
        false => table(["STREAM", "COST", "CARRIED BY", "WHICH THEN HAS"], rows),
    };
    let verdict = if found.fits { "It fits." } else { "It does NOT fit." };
    let edges = if found.edges.is_empty() { "nobody".to_owned() } else { found.edges.join(", ") };
    Ok(format!(
        "{streams}\n\nWithout {node}: {:.1} Mpx/s to carry, {:.1} free elsewhere; {} viewers, served by {edges} \
         ({:.0} each then). {verdict}",
        found.needed_mpx, found.free_mpx, found.viewers, found.viewers_per_edge,
    ))
}

/// Why a stream is where it is, or where it would go.
pub(crate) fn why(admin: &str, stream: &str, json: bool) -> anyhow::Result<String> {
    let key: StreamKey = stream.parse().with_context(|| format!("{stream:?}"))?;
    let why: Value = ask(admin, reqwest::Method::GET, &format!("/api/v1/why/{key}"))?;
    if json {
        return Ok(serde_json::to_string_pretty(&why)?);
    }
    let Why { question, answer, placed } = serde_json::from_value(why)?;
    let head = ["ORIGIN", "VERDICT", "ROOM", "CPU", "HEARTBEAT", "PROBES"];
    let rows = answer.candidates.iter().map(|c| {
        let (room, cpu) = (format!("{:.1} Mpx/s", c.free_mpx), format!("{:.0} %", c.cpu));
        [c.node.to_string(), c.verdict.clone(), room, cpu, seconds(c.heartbeat_age_ms), c.probes.clone()]
    });
    let edges: Vec<&str> = answer.edges.iter().map(NodeId::as_str).collect();
    let edges = if edges.is_empty() { "none takes viewers".to_owned() } else { edges.join(", ") };
    let cost = question.cost_mpx;
    let placed = placed.map(|placed| format!("\n\n{}", told(&placed, question.read_at))).unwrap_or_default();
    Ok(format!(
        "{key} goes to {}\n\n{}\n\nA publish costs {cost:.1} Mpx/s. Edges for its viewers: {edges}.{placed}",
        reason(&answer),
        table(head, rows)
    ))
}

/// Why a stream was placed where it is.
fn told(placed: &Placed, now: UnixMs) -> String {
    let origin = placed.candidates.first().map_or("nobody", |c| c.node.as_str());
    let because = match placed.because {
        Because::HasTheStream => "it had the stream",
        Because::LeastLoaded => "it would be the least loaded for its size",
        Because::LeastLoadedAsKnown => {
            "it was the least loaded as far as was known, for the cluster's memory did not answer"
        }
    };
    let rows = placed.candidates.iter().map(|c| {
        let room = format!("{:.1} of {:.1} Mpx/s", c.free_mpx, c.capacity_mpx);
        [c.node.to_string(), room, format!("{:.0} %", c.cpu), seconds(c.heartbeat_age_ms)]
    });
    format!(
        "It was placed on {origin} {} ago by {}, because {because}, of {} origins, as they were then:\n\n{}",
        seconds(u64::try_from(placed.at.age(now).as_millis()).unwrap_or(u64::MAX)),
        placed.by,
        placed.of,
        table(["ORIGIN", "ROOM", "CPU", "HEARTBEAT"], rows)
    )
}

fn reason(answer: &Answer) -> String {
    let origin = answer.origin.as_ref().map_or("nobody", NodeId::as_str);
    let why = match answer.reason {
        Reason::HasTheStream => "it has the stream, and lives",
        Reason::AmsHasTheStream => "an Ant Media Server node that has the stream",
        Reason::LeastLoaded => "it would be the least loaded for its size",
        Reason::AmsLessLoaded => "an Ant Media Server node, the least loaded",
        Reason::NoRoom => "no origin has room for it",
    };
    format!("{origin}: {why}.")
}

/// Has a node drained, or lets it take work again.
pub(crate) fn set_drain(admin: &str, node: &str, drain: bool, json: bool) -> anyhow::Result<String> {
    let order = if drain { "drain" } else { "undrain" };
    let path = format!("/api/v1/nodes/{node}/{order}");
    let model: NodeModel = ask(admin, reqwest::Method::POST, &path)?;
    if json {
        return Ok(serde_json::to_string_pretty(&model)?);
    }
    let left = format!("{} publishes and {} viewers", model.publishes, model.viewers);
    Ok(match drain {
        true => {
            format!("{} is {}: {left} are left. `sluicegate nodes` shows how they go.", model.id, model.state)
        }
        false => format!("{} takes work again from its next heartbeat on; it has {left}.", model.id),
    })
}

fn fetch(admin: &str) -> anyhow::Result<ClusterModel> {
    ask(admin, reqwest::Method::GET, "/api/v1/cluster")
}

/// What a node answers to a request; its own words when it refuses.
fn ask<T: DeserializeOwned>(admin: &str, method: reqwest::Method, path: &str) -> anyhow::Result<T> {
    let url = format!("{}{path}", admin.trim_end_matches('/'));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(ANSWER).build()?;
        let mut request = client.request(method.clone(), &url);
        if method != reqwest::Method::GET {
            request = request.json(&serde_json::json!({}));
        }
        let nobody = || format!("no node answers at {admin}; --admin names another");
        let answer = request.send().await.with_context(nobody)?;
        if let Err(refused) = answer.error_for_status_ref() {
            let problem: Value = answer.json().await.unwrap_or_default();
            let why = problem.get("title").and_then(|title| title.as_str()).map(str::to_owned);
            return Err(why.map_or_else(|| anyhow::Error::new(refused).context(nobody()), anyhow::Error::msg));
        }
        answer.json().await.with_context(|| format!("what answers at {admin} is not a node"))
    })
}

fn node_row(node: &NodeModel) -> [String; 10] {
    let roles: Vec<&str> = node.roles.iter().map(|r| r.as_str()).collect();
    let megabytes = |bytes: u64| bytes >> 20;
    [
        node.id.clone(),
        roles.join(","),
        node.problem.as_ref().map_or_else(|| node.state.clone(), |p| format!("{} ({p})", node.state)),
        node.http.clone(),
        seconds(node.heartbeat_age_ms),
        format!("{:.0} %", node.cpu),
        format!("{}/{} MiB", megabytes(node.memory_used_bytes), megabytes(node.memory_total_bytes)),
        format!("{:.0}/{:.0} Mpx/s", node.free_mpx, node.capacity_mpx),
        node.publishes.to_string(),
        node.viewers.to_string(),
    ]
}

fn stream_row(stream: &StreamModel) -> [String; 9] {
    let picture = match stream.height {
        0 => "unknown".to_owned(),
        height => format!("{}x{height}@{:.0}", stream.width, stream.fps),
    };
    [
        stream.key.clone(),
        match &stream.problem {
            Some(problem) => format!("unreadable ({problem})"),
            None if stream.live => "live".to_owned(),
            None => "not live".to_owned(),
        },
        stream.origin.clone(),
        stream.epoch.to_string(),
        stream.claims.to_string(),
        picture,
        format!("{:.1} Mbit/s", stream.bitrate_bps as f64 / 1e6),
        stream.viewers.to_string(),
        seconds(stream.age_ms),
    ]
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1e3)
}

fn with_age(text: String, model: &ClusterModel) -> String {
    let trouble = if model.store_ok { "" } else { "; the cluster's memory does not answer" };
    format!("{text}\n\nAs {} knew it {} ago{trouble}.", model.node, seconds(model.state_age_ms))
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "long cell".to_owned()], ["longer".to_owned(), "b".to_owned()]];
        assert_eq!(table(["X", "Y"], rows.into_iter()), "X       Y\na       long cell\nlonger  b");
    }
}
