//! `sluicegate check`: what a configuration resolves to, without its secrets.

use sluicegate_cluster::config::{DecoderChoice, EncoderChoice, Gate, Settings, StoreSettings};
use sluicegate_cluster::node::Role;

/// The settings in effect, a line each.
pub(crate) fn describe(settings: &Settings) -> String {
    let mut lines = vec!["The configuration is valid.".to_owned()];
    let mut line = |key: &str, value: String| lines.push(format!("{key:<22} {value}"));
    let roles: Vec<&str> = settings.roles.iter().map(|r| r.as_str()).collect();
    line("roles", roles.join(", "));
    line("node.id", settings.node.id.to_string());
    line("node.group", settings.node.group.clone());
    line("node.advertise", settings.node.advertise.to_string());
    line("node.http", settings.node.http.to_string());
    line("node.admin", settings.node.admin.to_string());
    line("cluster.store", describe_store(&settings.cluster.store));
    for app in &settings.apps {
        let segment_s = app.segment.as_secs_f64();
        line(&format!("app {}", app.name), format!("segments of {segment_s} s, {} listed", app.window));
        let keys = app.token_keys.ids();
        let gates = format!("publish {}, play {}", gate(app.publish), gate(app.play));
        line("", if keys.is_empty() { gates } else { format!("{gates}; keys {}", keys.join(", ")) });
    }
    if settings.roles.contains(&Role::Lb) {
        line("lb.http", join(&settings.lb.http));
        line("lb.https", join(&settings.lb.https));
        line("lb.rtmp", join(&settings.lb.rtmp));
        line("lb.certificates", settings.lb.certificates.len().to_string());
    }
    if settings.roles.contains(&Role::Edge) {
        line("edge.udp", settings.edge.udp.to_string());
        line("edge.cache_bytes", settings.edge.cache_bytes.to_string());
    }
    if settings.roles.contains(&Role::Origin) {
        line("origin.rtmp", settings.origin.rtmp.to_string());
        line("origin.udp", settings.origin.udp.to_string());
        let capacity =
            settings.origin.capacity_mpx.map_or_else(|| "auto".to_owned(), |m| format!("{m} Mpx/s"));
        line("origin.capacity_mpx", capacity);
        let encoder = match settings.origin.encoder {
            EncoderChoice::Auto => "auto",
            EncoderChoice::Nvenc => "nvenc",
            EncoderChoice::X264 => "x264",
        };
        line("origin.encoder", encoder.to_owned());
        let decoder = match settings.origin.decoder {
            DecoderChoice::Auto => "auto",
            DecoderChoice::Software => "software",
        };
        line("origin.decoder", decoder.to_owned());
    }
    lines.join("\n")
}

fn gate(gate: Gate) -> &'static str {
    match gate {
        Gate::Open => "open",
        Gate::Token => "by token",
    }
}

fn describe_store(store: &StoreSettings) -> String {
    match store {
        StoreSettings::Embedded { data: None } => "embedded, in memory".to_owned(),
        StoreSettings::Embedded { data: Some(path) } => format!("embedded, in {}", path.display()),
        StoreSettings::Mongo(address) => address.to_string(),
    }
}

fn join<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
