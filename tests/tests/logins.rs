//! Every way to log in to the database, and what happens when it is the wrong one. A password is in nothing
//! that is said about it.

use std::fs;
use std::time::Duration;

use sluicegate_e2e::address::Host;
use sluicegate_e2e::http;
use sluicegate_e2e::mongo::TestMongo;
use sluicegate_e2e::node::{NodeConfig, NodeProcess, run_sluicegate};
use sluicegate_e2e::tls_relay::TlsRelay;
use sluicegate_e2e::until::{until, until_true};

const KEY: &str = "only-for-tests-0123456789";
pub(crate) const USER: &str = "sluice";
/// With what has to be escaped in an address.
pub(crate) const PASSWORD: &str = "p@ss/w:rd%41?";
/// The same, escaped.
const ESCAPED: &str = "p%40ss%2Fw%3Ard%2541%3F";
/// For a node to notice that its login is refused, or taken again.
const NOTICED: Duration = Duration::from_secs(15);

pub(crate) fn database() -> TestMongo {
    TestMongo::start_with_login(USER, PASSWORD).unwrap_or_else(|error| panic!("{error:#}"))
}

pub(crate) fn edge(store: &str) -> NodeConfig {
    NodeConfig::role("edge", "edge-1", store, KEY)
}

#[track_caller]
pub(crate) fn tells_no_password(said: &str) {
    assert!(!said.is_empty());
    for secret in [PASSWORD, ESCAPED, KEY] {
        assert!(!said.contains(secret), "{secret} is in: {said}");
    }
}

/// All that a running node says to anybody.
fn all_it_says(node: &NodeProcess) -> String {
    let pages = ["/", "/api/v1/cluster", "/metrics", "/readyz", "/healthz"];
    let told = pages.map(|path| http::get(&node.admin_url(path)).text());
    [told.concat(), node.log()].concat()
}

#[track_caller]
pub(crate) fn works(config: NodeConfig) {
    for command in ["check", "doctor"] {
        let finished = config.run(&[command]);
        tells_no_password(&format!("{}{}", finished.stdout, finished.stderr));
        assert_eq!(finished.code, Some(0), "{command}: {}", finished.stderr);
    }
    let mut node = config.launch();
    node.wait_until_ready();
    until_true("it reads what it wrote", NOTICED, || node.node("edge-1").is_some());
    tells_no_password(&all_it_says(&node));
    assert!(node.terminate().success());
}

#[test]
fn a_login_is_written_in_four_places_and_shown_in_none() {
    let mongo = database();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let user = format!("user = {USER:?}");
    works(edge(mongo.uri()).set("cluster", &user).set("cluster", &format!("password = {PASSWORD:?}")));
    works(edge(mongo.uri()).set("cluster", &user).set("cluster", &format!("password_file = {file:?}")));
    works(edge(mongo.uri()).set("cluster", &user).variable("SLUICEGATE_CLUSTER_PASSWORD", PASSWORD));
    let inside = mongo.uri().replace("://", &format!("://{USER}:{ESCAPED}@"));
    works(edge(&inside));
}

#[test]
fn a_login_goes_over_tls_checked_by_an_own_authority() {
    let mongo = database();
    let relay = TlsRelay::to(mongo.uri());
    let with = |ca: &str| {
        edge(&relay.uri())
            .set("cluster", &format!("user = {USER:?}\npassword = {PASSWORD:?}"))
            .set("cluster", &format!("tls_ca = {ca:?}"))
    };
    works(with(&relay.authority().display().to_string()));

    // One that nobody here vouches for is not talked to.
    let other = tempfile::tempdir().unwrap();
    let folder = other.path().display().to_string();
    assert_eq!(run_sluicegate(&["certs", "dev", "--out", &folder]).code, Some(0));
    let node = with(&format!("{folder}/ca.pem")).launch();
    let log = until("the certificate is refused", NOTICED, || {
        Some(node.log()).filter(|log| log.contains("certificate"))
    });
    tells_no_password(&log);
    assert_ne!(http::try_get(&node.admin_url("/readyz")).map_or(503, |answer| answer.status), 200);

    let absent = with("/nowhere/ca.pem").start_in_vain();
    assert_eq!(absent.code, Some(2), "{}", absent.stderr);
    assert!(absent.stderr.contains("/nowhere/ca.pem"), "{}", absent.stderr);
    tells_no_password(&absent.stderr);
}

#[test]
fn a_wrong_password_is_one_line_at_the_start() {
    let mongo = database();
    let config = edge(mongo.uri()).set("cluster", &format!("user = {USER:?}\npassword = \"{PASSWORD}x\""));
    let finished = config.start_in_vain();
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    let line = finished.stderr.lines().last().unwrap_or_default();
    assert!(line.starts_with("sluicegate: ") && line.contains("refused the login"), "{}", finished.stderr);
    tells_no_password(&finished.stderr);
    let doctor = config.run(&["doctor"]);
    assert!(doctor.code == Some(2) && doctor.stderr.contains("refused the login"), "{}", doctor.stderr);
    tells_no_password(&doctor.stderr);
}

#[test]
fn a_password_that_is_wrong_later_is_shown_and_tried_again() {
    let mut mongo = database();
    let login = format!("user = {USER:?}\npassword = {PASSWORD:?}");
    let mut node = edge(mongo.uri()).set("cluster", &login).launch();
    node.wait_until_ready();
    let store_ok = |node: &NodeProcess, up: bool| {
        node.cluster()["store_ok"] == up && node.count("sluicegate_store_up", &[]) == u64::from(up)
    };
    until_true("it is joined", NOTICED, || store_ok(&node, true));
    mongo.set_password("another");
    until_true("the login is refused", NOTICED, || {
        store_ok(&node, false) && node.log().contains("refused the login")
    });
    mongo.set_password(PASSWORD);
    until_true("the login is taken again", NOTICED, || store_ok(&node, true));
    tells_no_password(&all_it_says(&node));
}

#[test]
fn a_password_in_a_file_is_replaced_without_a_restart() {
    let mut mongo = database();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, PASSWORD).unwrap();
    let login = format!("user = {USER:?}\npassword_file = {file:?}");
    let mut node = edge(mongo.uri()).set("cluster", &login).launch();
    node.wait_until_ready();
    let store_ok = |node: &NodeProcess| node.count("sluicegate_store_up", &[]) == 1;
    let refused =
        |node: &NodeProcess| node.count("sluicegate_files_refused", &[("what", "database_password")]) == 1;
    until_true("it is joined", NOTICED, || store_ok(&node));

    // The file first: until the database takes the new password, the old one stays in force.
    fs::write(&file, "geheim-2").unwrap();
    until_true("the new password is refused", NOTICED, || refused(&node));
    assert!(node.log().contains("refused the login"), "{}", node.log());
    assert!(store_ok(&node) && node.cluster()["store_ok"] == true);
    mongo.set_password("geheim-2");
    until_true("the new password is taken", NOTICED, || !refused(&node) && store_ok(&node));
    until_true("it is joined by it", NOTICED, || node.cluster()["store_ok"] == true);

    // The database first: nothing is decided by what nobody can read, and the file makes it good.
    mongo.set_password("geheim-3");
    until_true("the old password is refused", NOTICED, || !store_ok(&node));
    fs::write(&file, "geheim-3").unwrap();
    until_true("the next password is taken", NOTICED, || store_ok(&node));
    assert!(!refused(&node));
    let said = all_it_says(&node);
    tells_no_password(&said);
    assert!(!said.contains("geheim"), "{said}");
    assert!(node.terminate().success());
}

#[test]
fn a_file_is_brought_to_a_cluster_and_back() {
    let mongo = database();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sluicegate.toml");
    let path = file.display().to_string();
    // `doctor` looks whether its ports are free, on every address unless they are named.
    let host = Host::claim();
    let (http, admin, udp) = (host.port(5080), host.port(9180), host.port(20_000));
    let before = format!(
        "# Ours.\nroles = [\"edge\"]\n[node]\nhttp = \"{http}\"\nadmin = \"{admin}\"\n\
         [edge]\nudp = \"{udp}\"\n[cluster]\nkey = {KEY:?} # shared\n"
    );
    fs::write(&file, &before).unwrap();
    let run = |words: &[&str]| {
        let finished = run_sluicegate(&[words, &["--config", &path]].concat());
        tells_no_password(&format!("{}{}", finished.stdout, finished.stderr));
        assert_eq!(finished.code, Some(0), "{words:?}: {}", finished.stderr);
        finished.stdout
    };
    let place = mongo.uri().trim_start_matches("mongodb://");
    let changed = run(&["mode", "cluster", place, USER, PASSWORD]);
    assert!(changed.contains(&format!("{path}.bak")), "{changed}");
    assert!(run(&["check"]).contains(mongo.uri()));
    assert!(run(&["doctor"]).contains(&format!("{} answers", mongo.uri())));
    assert!(run(&["mode", "cluster", place, USER, PASSWORD]).contains("already"));
    assert_eq!(fs::read_to_string(format!("{path}.bak")).unwrap(), before);
    run(&["mode", "standalone"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{before}store = \"embedded\"\n"));

    fs::write(&file, "roles = [\"lb\"]\n").unwrap();
    assert!(run(&["mode", "cluster", "mongo-1"]).contains("cannot be started yet: cluster.key"));
    assert_eq!(run_sluicegate(&["mode", "standalone", "--config", "/nowhere.toml"]).code, Some(2));
}
