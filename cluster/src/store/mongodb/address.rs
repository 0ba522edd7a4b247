//! Where the database is and how to log in: what the configuration says, made into the driver's options.
//! A password is never shown, neither the one given apart nor one inside the address.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mongodb::error::{Error, ErrorKind};
use mongodb::options::{
    Acknowledgment, ClientOptions, ConnectionString, ReadPreference, SelectionCriteria, Tls, TlsOptions,
    WriteConcern,
};

use super::failure;
use crate::limits;
use crate::secret::Secret;
use crate::store::StoreError;

/// What the server's log calls these connections, unless the address names them.
const APP_NAME: &str = "sluicegate";

/// The most connections to one server. A node needs few: its heartbeat, its view and claims in progress.
const CONNECTIONS_MAX: u32 = 16;

/// The longest wait for a server to be found and for a connection to it. Shorter than
/// [`limits::STORE_CALL`], so that the driver can still say what it waited for.
const SERVER_WAIT: Duration = Duration::from_millis(2_500);

const _: () = assert!(SERVER_WAIT.as_millis() < limits::STORE_CALL.as_millis());

/// The database of a cluster, as configured.
#[derive(Clone, PartialEq, Eq)]
pub struct MongoAddress {
    /// `mongodb://…` or `mongodb+srv://…`, with the driver's usual options.
    pub uri: String,
    /// The login, which replaces one in `uri`.
    pub user: Option<String>,
    /// The password of `user`. One in a file is taken over when that changes.
    pub password: Option<Secret>,
    /// Certificates (PEM) that the server's is checked against, instead of the public ones. Turns TLS on.
    pub tls_ca: Option<PathBuf>,
}

impl MongoAddress {
    /// Checks that this is an address, without asking anybody.
    ///
    /// # Errors
    /// [`StoreError::Address`].
    pub fn check(&self) -> Result<(), StoreError> {
        self.parse(self.read_password()?.as_deref()).map(drop)
    }

    /// What the password is now.
    pub(super) fn read_password(&self) -> Result<Option<String>, StoreError> {
        self.password.as_ref().map(Secret::read).transpose().map_err(StoreError::Password)
    }

    /// The driver's options: the address's own within this store's bounds, reads from the primary, and
    /// writes that a majority has in its journal.
    pub(super) async fn client_options(&self, password: Option<&str>) -> Result<ClientOptions, StoreError> {
        let connection = self.parse(password)?;
        let mut options = ClientOptions::parse(connection).await.map_err(|e| failure::looked_up(&e, self))?;
        options.app_name.get_or_insert_with(|| APP_NAME.to_owned());
        options.max_pool_size = Some(options.max_pool_size.map_or(CONNECTIONS_MAX, at_most_connections));
        options.server_selection_timeout = Some(at_most_wait(options.server_selection_timeout));
        options.connect_timeout = Some(at_most_wait(options.connect_timeout));
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        options.write_concern = Some(
            WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .w_timeout(limits::STORE_CALL)
                .journal(true)
                .build(),
        );
        if let Some(ca) = &self.tls_ca {
            options.tls = Some(with_ca(options.tls, ca)?);
        }
        Ok(options)
    }

    fn parse(&self, password: Option<&str>) -> Result<ConnectionString, StoreError> {
        ConnectionString::parse(self.uri_with_login(password)?).map_err(|e| self.refused(&e))
    }

    /// `uri` with `user` and `password` in it: only there does the driver heed `authSource`.
    fn uri_with_login(&self, password: Option<&str>) -> Result<String, StoreError> {
        let Some(user) = &self.user else {
            if password.is_some() {
                return Err(StoreError::Address("a password without a user".to_owned()));
            }
            return Ok(self.uri.clone());
        };
        let Some((scheme, rest)) = self.uri.split_once("://") else { return Ok(self.uri.clone()) };
        let (place, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
        let hosts = place.rsplit_once('@').map_or(place, |(_, hosts)| hosts);
        let password = password.map(|p| format!(":{}", percent_encoded(p)));
        Ok(format!(
            "{scheme}://{}{}@{hosts}{}",
            percent_encoded(user),
            password.unwrap_or_default(),
            query.map(|q| format!("?{q}")).unwrap_or_default(),
        ))
    }

    /// Why the driver cannot parse the address. Its own words may quote a login that is not encoded well,
    /// so they are shown only when the address is as wrong without one.
    fn refused(&self, error: &Error) -> StoreError {
        let why = match ConnectionString::parse(without_login(&self.uri)) {
            Ok(_) if self.uri.contains('@') => {
                "the user and the password in it must be percent-encoded".to_owned()
            }
            Ok(_) => failure::text(error),
            Err(without) => match *without.kind {
                ErrorKind::InvalidArgument { message, .. } => message,
                _ => failure::text(&without),
            },
        };
        StoreError::Address(why)
    }
}

impl fmt::Display for MongoAddress {
    /// The scheme and the hosts: neither login nor options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = without_login(&self.uri);
        f.write_str(bare.split('?').next().unwrap_or_default())
    }
}

impl fmt::Debug for MongoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoAddress")
            .field("uri", &self.to_string())
            .field("user", &self.user)
            .field("password", &self.password)
            .field("tls_ca", &self.tls_ca)
            .finish()
    }
}

/// `uri` without anything up to its last `@`: whatever is mistyped in a password, none of it is left.
fn without_login(uri: &str) -> String {
    let Some((_, hosts)) = uri.rsplit_once('@') else { return uri.to_owned() };
    match uri.split_once("://") {
        Some((scheme @ ("mongodb" | "mongodb+srv"), _)) => format!("{scheme}://{hosts}"),
        _ => hosts.to_owned(),
    }
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn at_most_connections(configured: u32) -> u32 {
    // To the driver, zero means no limit.
    if configured == 0 { CONNECTIONS_MAX } else { configured.min(CONNECTIONS_MAX) }
}

fn at_most_wait(configured: Option<Duration>) -> Duration {
    // To the driver, zero means no limit.
    configured.filter(|d| !d.is_zero()).map_or(SERVER_WAIT, |d| d.min(SERVER_WAIT))
}

fn with_ca(tls: Option<Tls>, ca: &Path) -> Result<Tls, StoreError> {
    let mut options = match tls {
        Some(Tls::Enabled(options)) => options,
        Some(Tls::Disabled) => {
            return Err(StoreError::Address("tls=false contradicts tls_ca".to_owned()));
        }
        None => TlsOptions::default(),
    };
    options.ca_file_path = Some(ca.to_owned());
    Ok(Tls::Enabled(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(uri: &str) -> MongoAddress {
        MongoAddress { uri: uri.to_owned(), user: None, password: None, tls_ca: None }
    }

    fn login(uri: &str, user: &str, password: &str) -> MongoAddress {
        let password = Some(Secret::Fixed(password.to_owned()));
        MongoAddress { user: Some(user.to_owned()), password, ..address(uri) }
    }

    async fn options_of(address: &MongoAddress) -> Result<ClientOptions, StoreError> {
        address.client_options(address.read_password()?.as_deref()).await
    }

    #[tokio::test]
    async fn waits_and_connections_are_bounded() {
        let greedy = "mongodb://h/?maxPoolSize=500&connectTimeoutMS=0&serverSelectionTimeoutMS=90000";
        for uri in ["mongodb://h", greedy] {
            let options = options_of(&address(uri)).await.unwrap();
            assert_eq!(options.max_pool_size, Some(CONNECTIONS_MAX), "{uri}");
            assert_eq!(options.connect_timeout, Some(SERVER_WAIT), "{uri}");
            assert_eq!(options.server_selection_timeout, Some(SERVER_WAIT), "{uri}");
        }
        let modest = "mongodb://h/?maxPoolSize=3&connectTimeoutMS=100&appName=mine";
        let options = options_of(&address(modest)).await.unwrap();
        assert_eq!(options.max_pool_size, Some(3));
        assert_eq!(options.connect_timeout, Some(Duration::from_millis(100)));
        assert_eq!(options.app_name.as_deref(), Some("mine"));
    }

    #[tokio::test]
    async fn reads_are_the_primarys_and_writes_the_majoritys() {
        let uri = "mongodb://h/?readPreference=secondary&w=1&journal=false";
        let options = options_of(&address(uri)).await.unwrap();
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        assert_eq!(options.selection_criteria, Some(primary));
        let concern = options.write_concern.unwrap();
        assert_eq!((concern.w, concern.journal), (Some(Acknowledgment::Majority), Some(true)));
    }

    #[tokio::test]
    async fn a_login_given_apart_is_the_one_used() {
        for uri in ["mongodb://a,b/?authSource=users", "mongodb://x:y@a,b/?authSource=users"] {
            let options = options_of(&login(uri, "ams@site", "p/ä:?@%")).await.unwrap();
            let credential = options.credential.unwrap();
            assert_eq!(credential.username.as_deref(), Some("ams@site"), "{uri}");
            assert_eq!(credential.password.as_deref(), Some("p/ä:?@%"), "{uri}");
            assert_eq!(credential.source.as_deref(), Some("users"), "{uri}");
            assert_eq!(options.hosts.len(), 2);
        }
        let options = options_of(&login("mongodb://h", "u", "p")).await.unwrap();
        assert_eq!(options.credential.unwrap().source.as_deref(), Some("admin"));
        let options = options_of(&address("mongodb://u:p%40@h")).await.unwrap();
        assert_eq!(options.credential.unwrap().password.as_deref(), Some("p@"));
    }

    #[tokio::test]
    async fn a_ca_turns_tls_on() {
        let ca = MongoAddress { tls_ca: Some("/ca.pem".into()), ..address("mongodb://h") };
        let options = options_of(&ca).await.unwrap();
        let Some(Tls::Enabled(tls)) = options.tls else { panic!("{:?}", options.tls) };
        assert_eq!(tls.ca_file_path, Some("/ca.pem".into()));
        let contradiction = MongoAddress { uri: "mongodb://h/?tls=false".to_owned(), ..ca };
        assert_eq!(options_of(&contradiction).await.unwrap_err().kind(), "address");
    }

    #[tokio::test]
    async fn bad_addresses_are_told_without_their_passwords() {
        let with_port = login("mongodb://h:x", "u", "geheim");
        let no_user = MongoAddress { user: None, ..login("mongodb://h", "u", "geheim") };
        let bad = [
            address("mongodb://u:geheim/1@h"),
            address("mongodb://u:1@geheim@h"),
            address("mongodb://u:geheim?@h"),
            address("mongodb://u:geheim%zz%@h:0"),
            address("u:geheim@h"),
            address("geheim://u:geheim@h"),
            with_port,
            no_user,
        ];
        for address in bad {
            let error = options_of(&address).await.unwrap_err();
            assert_eq!(error.kind(), "address", "{address}");
            assert!(!error.to_string().contains("geheim"), "{error}");
            assert!(!format!("{address} {address:?} {error:?}").contains("geheim"), "{address}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        let shown = login("mongodb://x:geheim@a:1,b/db?tlsCertificateKeyFilePassword=geheim", "u", "geheim");
        assert_eq!(shown.to_string(), "mongodb://a:1,b/db");
        assert!(!format!("{shown:?}").contains("geheim"));
        assert!(format!("{shown:?}").contains(r#"Some("u")"#));
    }
}
