//! Certificates: read from their files, checked, chosen by the name that a client asks for, and read again when their
//! files change: handshakes from then on get the new ones, connections that are there notice nothing.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::IntGauge;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sluicegate_cluster::clock::{self, UnixMs};
use sluicegate_cluster::config::CertificateFiles;
use sluicegate_cluster::watched::Reread;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::error::StartError;

/// What HTTPS listeners serve with.
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) certificates: Arc<Certificates>,
}

/// TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1, session tickets.
///
/// # Errors
/// [`StartError::Certificate`] names the file that cannot be used.
pub(crate) fn open(files: &[CertificateFiles]) -> Result<Tls, StartError> {
    let provider = Arc::new(ring::default_provider());
    let certificates = Arc::new(Certificates::read(files)?);
    let failed = |why: rustls::Error| StartError::Certificate {
        path: files.first().map_or_else(Default::default, |f| f.cert.clone()),
        why: why.to_string(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(failed)?;
    Ok(Tls { config: Arc::new(config), certificates })
}

/// The certificates in force.
pub(crate) struct Certificates {
    files: Vec<CertificateFiles>,
    in_force: ArcSwap<ByName>,
    /// When the first of them expires, seconds since 1970.
    pub(crate) expiry_s: IntGauge,
}

/// Certificates by the DNS names in them; `*.example.org` stands for one label.
struct ByName {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
    /// When the first of them expires, seconds since 1970.
    expiry_s: i64,
}

impl Certificates {
    fn read(files: &[CertificateFiles]) -> Result<Self, StartError> {
        let expiry_s = IntGauge::new(
            "sluicegate_certificate_expiry_timestamp_seconds",
            "When the first of the certificates in force expires, since 1970",
        )?;
        let in_force = ByName::read(files)?;
        let certificates =
            Self { files: files.to_owned(), in_force: ArcSwap::from_pointee(in_force), expiry_s };
        certificates.tell_expiry();
        Ok(certificates)
    }

    fn tell_expiry(&self) {
        let expiry_s = self.in_force.load().expiry_s;
        self.expiry_s.set(expiry_s);
        if UnixMs(expiry_s.saturating_mul(1_000)) <= clock::unix_ms() {
            tracing::warn!(
                expiry_s,
                "a certificate in lb.certificates has expired; it is served all the same"
            );
        }
    }
}

impl Reread for Certificates {
    fn what(&self) -> &'static str {
        "certificates"
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.iter().flat_map(|pair| [pair.cert.clone(), pair.key.clone()]).collect()
    }

    fn reread(&self) -> Result<(), String> {
        self.in_force.store(Arc::new(ByName::read(&self.files).map_err(|why| why.to_string())?));
        self.tell_expiry();
        Ok(())
    }
}

impl ByName {
    fn read(files: &[CertificateFiles]) -> Result<Self, StartError> {
        let mut certificates = Self { by_name: HashMap::new(), default: None, expiry_s: i64::MAX };
        for file in files {
            let Pair { key, names, expiry_s } = read_pair(file)?;
            for name in names {
                certificates.by_name.entry(name).or_insert_with(|| Arc::clone(&key));
            }
            certificates.default.get_or_insert(key);
            certificates.expiry_s = certificates.expiry_s.min(expiry_s);
        }
        Ok(certificates)
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wildcard = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.by_name.get(&name).or_else(|| self.by_name.get(&wildcard()?))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.in_force.load().by_name.keys()).finish()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let in_force = self.in_force.load();
        let named = hello.server_name().and_then(|name| in_force.find(name));
        named.or(in_force.default.as_ref()).cloned()
    }
}

/// A certificate with its key.
struct Pair {
    key: Arc<CertifiedKey>,
    /// Those that it is for.
    names: Vec<String>,
    /// When it expires, seconds since 1970.
    expiry_s: i64,
}

fn read_pair(files: &CertificateFiles) -> Result<Pair, StartError> {
    let chain = read_chain(&files.cert)?;
    let (names, expiry_s) = chain.first().map_or_else(|| (Vec::new(), i64::MAX), |leaf| read_leaf(leaf));
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unusable(&files.key, e))?;
    let signing = ring::sign::any_supported_type(&key).map_err(|e| unusable(&files.key, e))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|e| unusable(&files.cert, e))?;
    Ok(Pair { key: Arc::new(certified), names, expiry_s })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|e| unusable(path, e))?;
    if chain.is_empty() { Err(unusable(path, "there is no certificate in it")) } else { Ok(chain) }
}

/// The names that a certificate is for, and when it expires, seconds since 1970.
fn read_leaf(leaf: &CertificateDer<'_>) -> (Vec<String>, i64) {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else {
        return (Vec::new(), i64::MAX);
    };
    (names_of(&certificate), certificate.validity().not_after.timestamp())
}

fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    dns.collect()
}

fn unusable(path: &Path, why: impl ToString) -> StartError {
    StartError::Certificate { path: path.to_owned(), why: why.to_string() }
}
