//! Certificates: read from their files, checked, and chosen by the name that a client asks for.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sluicegate_cluster::config::CertificateFiles;
use x509_parser::extensions::GeneralName;

use crate::error::StartError;

/// TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1, session tickets.
///
/// # Errors
/// [`StartError::Certificate`] names the file that cannot be used.
pub(crate) fn server_config(files: &[CertificateFiles]) -> Result<Arc<ServerConfig>, StartError> {
    let provider = Arc::new(ring::default_provider());
    let certificates = Certificates::read(files)?;
    let failed = |why: rustls::Error| StartError::Certificate {
        path: files.first().map_or_else(Default::default, |f| f.cert.clone()),
        why: why.to_string(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(failed)?;
    Ok(Arc::new(config))
}

/// Certificates by the DNS names in them; `*.example.org` stands for one label.
struct Certificates {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    fn read(files: &[CertificateFiles]) -> Result<Self, StartError> {
        let mut certificates = Self { by_name: HashMap::new(), default: None };
        for file in files {
            let (key, names) = read_pair(file)?;
            for name in names {
                certificates.by_name.entry(name).or_insert_with(|| Arc::clone(&key));
            }
            certificates.default.get_or_insert(key);
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
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.find(name));
        named.or(self.default.as_ref()).cloned()
    }
}

fn read_pair(files: &CertificateFiles) -> Result<(Arc<CertifiedKey>, Vec<String>), StartError> {
    let chain = read_chain(&files.cert)?;
    let names = chain.first().map(|leaf| names_of(leaf)).unwrap_or_default();
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unusable(&files.key, e))?;
    let signing = ring::sign::any_supported_type(&key).map_err(|e| unusable(&files.key, e))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|e| unusable(&files.cert, e))?;
    Ok((Arc::new(certified), names))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|e| unusable(path, e))?;
    if chain.is_empty() { Err(unusable(path, "there is no certificate in it")) } else { Ok(chain) }
}

fn names_of(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else { return Vec::new() };
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
