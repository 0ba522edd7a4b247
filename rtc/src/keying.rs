//! Hears the keys that DTLS agrees on (RFC 5764): str0m keeps them to itself, and who sends media past it needs
//! them as well.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use str0m::config::{CryptoProvider, DtlsCert, DtlsVersion};
use str0m::crypto::dtls::{
    DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion, SrtpProfile,
};

/// What DTLS has agreed on.
pub(crate) struct Agreed {
    pub(crate) profile: SrtpProfile,
    /// Both sides' master keys, then both sides' master salts, the client's first (RFC 5764 section 4.2).
    pub(crate) material: Vec<u8>,
    /// Whether this end is DTLS's client.
    pub(crate) is_client: bool,
}

/// Where a session's keys are to be found once it has them.
pub(crate) type Keys = Arc<OnceLock<Agreed>>;

/// The engine's own cryptography, in which DTLS tells its keys.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider { dtls_provider: &TellingDtls, ..str0m::crypto::from_feature_flags() }
}

/// Where the keys of the session that `build` makes will be. It has to be made with [`provider`].
pub(crate) fn heard<T>(build: impl FnOnce() -> T) -> (T, Keys) {
    let built = build();
    (built, NEWEST.take().unwrap_or_default())
}

thread_local! {
    /// A provider is one for all sessions: which instance is whose is known while a session is made, on its
    /// thread.
    static NEWEST: RefCell<Option<Keys>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct TellingDtls;

impl DtlsProvider for TellingDtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        str0m::crypto::from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, str0m::crypto::CryptoError> {
        let plain = str0m::crypto::from_feature_flags().dtls_provider;
        let inner = plain.new_dtls(certificate, now, version, mtu)?;
        let keys = Keys::default();
        NEWEST.set(Some(Arc::clone(&keys)));
        Ok(Box::new(Telling { inner, keys }))
    }
}

struct Telling {
    inner: Box<dyn DtlsInstance>,
    keys: Keys,
}

impl fmt::Debug for Telling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telling").finish_non_exhaustive()
    }
}

impl DtlsInstance for Telling {
    fn set_active(&mut self, active: bool) {
        self.inner.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.inner.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        let is_client = self.inner.is_active();
        let output = self.inner.poll_output(buffer);
        if let DtlsOutput::KeyingMaterial(material, profile) = &output {
            // Keys are agreed on once: a second time would be an engine's mistake, and the first counts.
            let _ = self.keys.set(Agreed { profile: *profile, material: material.to_vec(), is_client });
        }
        output
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.inner.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.inner.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.inner.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.inner.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.inner.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.inner.close()
    }
}
