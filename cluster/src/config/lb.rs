//! `[lb]`: a balancer's listeners, certificates and threads, and what AMS's own nodes do.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;
use super::values::{any, cores};
use crate::ams::roles::RoleRules;
use crate::node::Role;
use crate::proxies::TrustedProxies;

/// `[lb]`
#[derive(Debug, Clone)]
pub struct LbSettings {
    /// Plain HTTP listeners.
    pub http: Vec<SocketAddr>,
    /// HTTPS listeners.
    pub https: Vec<SocketAddr>,
    /// RTMP listeners.
    pub rtmp: Vec<SocketAddr>,
    /// Certificates, chosen by the name the client asks for; the first is the default.
    pub certificates: Vec<CertificateFiles>,
    /// Threads that serve viewers and publishers.
    pub threads: usize,
    /// What AMS's own nodes do, which their documents do not say.
    pub roles: RoleRules,
    /// Proxies in front of it, which say whom they speak for.
    pub trusted_proxies: TrustedProxies,
}

/// A certificate and its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and the chain to its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLb {
    http: Option<Vec<SocketAddr>>,
    https: Option<Vec<SocketAddr>>,
    rtmp: Option<Vec<SocketAddr>>,
    certificates: Option<Vec<RawCertificate>>,
    threads: Option<usize>,
    roles: Option<Vec<RawRoleRule>>,
    trusted_proxies: Option<Vec<String>>,
}

/// What AMS's nodes of a network do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoleRule {
    #[serde(rename = "match")]
    network: String,
    role: Role,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCertificate {
    cert: PathBuf,
    key: PathBuf,
}

pub(super) fn resolve(raw: RawLb, used: bool) -> Result<LbSettings, ConfigError> {
    let certificates: Vec<CertificateFiles> = raw
        .certificates
        .unwrap_or_default()
        .into_iter()
        .map(|c| CertificateFiles { cert: c.cert, key: c.key })
        .collect();
    let https =
        raw.https.unwrap_or_else(|| if certificates.is_empty() { Vec::new() } else { vec![any(5443)] });
    if used && !https.is_empty() && certificates.is_empty() {
        return Err(ConfigError::invalid(
            "lb.https",
            "HTTPS needs lb.certificates; `sluicegate certs dev` makes one to try with",
        ));
    }
    let threads = raw.threads.unwrap_or_else(cores);
    if !(1..=256).contains(&threads) {
        return Err(ConfigError::invalid("lb.threads", "between 1 and 256"));
    }
    let rules = raw.roles.unwrap_or_default().into_iter().map(|rule| (rule.network, rule.role));
    let proxies = raw.trusted_proxies.unwrap_or_default();
    Ok(LbSettings {
        trusted_proxies: TrustedProxies::read(&proxies)
            .map_err(|why| ConfigError::invalid("lb.trusted_proxies", why))?,
        roles: RoleRules::read(rules).map_err(|why| ConfigError::invalid("lb.roles", why))?,
        http: raw.http.unwrap_or_else(|| vec![any(5080)]),
        https,
        rtmp: raw.rtmp.unwrap_or_else(|| vec![any(1935)]),
        certificates,
        threads,
    })
}
