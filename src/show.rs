//! `sluicegate nodes` and `sluicegate streams`: what a node's admin listener says, as tables for people and
//! JSON for programs.

use std::time::Duration;

use anyhow::Context as _;
use sluicegate_cluster::admin::{ClusterModel, NodeModel, StreamModel};

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
    let head = ["STREAM", "ORIGIN", "EPOCH", "CLAIMS", "PICTURE", "BITRATE", "VIEWERS", "AGE"];
    Ok(with_age(table(head, model.streams.iter().map(stream_row)), &model))
}

fn fetch(admin: &str) -> anyhow::Result<ClusterModel> {
    let url = format!("{}/api/v1/cluster", admin.trim_end_matches('/'));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(ANSWER).build()?;
        let answer = client.get(&url).send().await.and_then(reqwest::Response::error_for_status);
        let answer = answer.with_context(|| format!("no node answers at {admin}; --admin names another"))?;
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

fn stream_row(stream: &StreamModel) -> [String; 8] {
    let picture = match stream.height {
        0 => "unknown".to_owned(),
        height => format!("{}x{height}@{:.0}", stream.width, stream.fps),
    };
    [
        stream.key.clone(),
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
