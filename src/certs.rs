//! `sluicegate certs dev`: a development CA and a certificate for this host, to try HTTPS with. Nothing made
//! here is fit for production, and nothing of it belongs in a repository.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The files that are written: the CA's certificate to trust, the host's chain and its key.
const CA: &str = "ca.pem";
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";

/// Makes them in `out`, unless they are there, and says how to use them.
pub(crate) fn dev(out: &Path, names: &[String]) -> anyhow::Result<String> {
    if [CA, CERT, KEY].iter().all(|f| out.join(f).exists()) {
        return Ok(format!("{} has a certificate already; remove the folder for a new one.", out.display()));
    }
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let (authority, issuer) = authority()?;
    let (chain, key) = host(&issuer, names)?;
    write(&out.join(CA), &authority, 0o644)?;
    write(&out.join(CERT), &chain, 0o644)?;
    write(&out.join(KEY), &key, 0o600)?;
    let path = |file: &str| out.join(file).display().to_string();
    Ok(format!(
        "A development certificate is in {folder}. Use it by\n  [lb]\n  certificates = [{{ cert = {cert:?}, key = {key:?} }}]\n\
         and let browsers trust {ca}.",
        folder = out.display(),
        cert = path(CERT),
        key = path(KEY),
        ca = path(CA),
    ))
}

/// The CA. Its key signs one certificate and is forgotten.
fn authority() -> anyhow::Result<(String, Issuer<'static, KeyPair>)> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Sluicegate development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Issuer::new(params, key)))
}

fn host(issuer: &Issuer<'static, KeyPair>, more: &[String]) -> anyhow::Result<(String, String)> {
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(Some(host_name.trim().to_owned()).filter(|n| !n.is_empty()));
    names.extend(more.iter().cloned());
    let is_usable = |name: &String| name.parse::<IpAddr>().is_ok() || name.is_ascii();
    names.retain(is_usable);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Sluicegate development");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut open = fs::OpenOptions::new();
    let mut file = open
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("writing {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}
