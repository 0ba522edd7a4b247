//! A database whose place is in the DNS (`mongodb+srv`), as Atlas gives it. Such addresses mean TLS.

use std::io::Write as _;
use std::time::Duration;

use sluicegate_e2e::dns::TestDns;
use sluicegate_e2e::node::NodeConfig;
use sluicegate_e2e::tls_relay::{PORT, TlsRelay};
use sluicegate_e2e::until::until_true;

use crate::logins::{PASSWORD, USER, database, edge, tells_no_password, works};

/// The cluster's name, and one of its servers'.
const CLUSTER: &str = "cluster0.sluicegate.test";
const SERVER: &str = "db-1.sluicegate.test";
/// For a name server to be given up, and asked again.
const ASKED_AGAIN: Duration = Duration::from_secs(20);

/// A name server, or none where this machine permits none: then the test says so, past what the test runner keeps
/// to itself, and ends.
fn name_server() -> Option<TestDns> {
    let started = TestDns::start();
    if let Err(why) = &started {
        let _ = writeln!(std::io::stderr(), "NOT TESTED HERE: mongodb+srv: {why}");
    }
    started.ok()
}

fn found_by(dns: &TestDns, options: &str) -> NodeConfig {
    edge(&format!("mongodb+srv://{CLUSTER}/{options}"))
        .set("cluster", &format!("user = {USER:?}\npassword = {PASSWORD:?}"))
        .resolver(dns.ip())
}

fn in_vain(dns: &TestDns) -> String {
    let finished = found_by(dns, "").start_in_vain();
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    tells_no_password(&finished.stderr);
    let line = finished.stderr.lines().last().unwrap_or_default().to_owned();
    assert!(line.starts_with("sluicegate: "), "{}", finished.stderr);
    line
}

/// The DNS knows the cluster, and `relay` as its one server.
fn leads_to(dns: &TestDns, relay: &TlsRelay) {
    dns.service(&format!("_mongodb._tcp.{CLUSTER}"), SERVER, PORT);
    dns.text(CLUSTER, "authSource=admin");
    dns.host(SERVER, relay.ip());
}

#[test]
fn the_dns_leads_to_the_database_by_tls() {
    let Some(dns) = name_server() else { return };
    let mongo = database();
    let relay = TlsRelay::named(mongo.uri(), SERVER);
    leads_to(&dns, &relay);
    let authority = format!("tls_ca = {:?}", relay.authority());
    works(found_by(&dns, "").set("cluster", &authority));
    let asked = dns.asked();
    for question in [format!("SRV _mongodb._tcp.{CLUSTER}"), format!("TXT {CLUSTER}"), format!("A {SERVER}")]
    {
        assert!(asked.contains(&question), "{question} is not among {asked:?}");
    }

    // Without an authority that vouches for it, nobody is told a password.
    let stranger = found_by(&dns, "").launch();
    until_true("the certificate is refused", ASKED_AGAIN, || stranger.log().contains("certificate"));
    tells_no_password(&stranger.log());
}

#[test]
fn what_the_dns_does_not_know_is_one_line_at_the_start() {
    let Some(dns) = name_server() else { return };
    let service = format!("_mongodb._tcp.{CLUSTER}");
    let line = in_vain(&dns);
    assert!(line.contains("the DNS has no SRV record") && line.contains(&service), "{line}");
    let doctor = found_by(&dns, "").run(&["doctor"]);
    assert!(doctor.code == Some(2) && doctor.stderr.contains(&service), "{}", doctor.stderr);

    dns.service(&service, "db-1.another.test", PORT);
    let line = in_vain(&dns);
    assert!(line.contains("db-1.another.test"), "a server of another domain: {line}");
}

#[test]
fn a_name_server_that_does_not_answer_is_asked_again() {
    let Some(dns) = name_server() else { return };
    let mongo = database();
    let relay = TlsRelay::named(mongo.uri(), SERVER);
    leads_to(&dns, &relay);
    dns.be_silent(true);
    let authority = format!("tls_ca = {:?}", relay.authority());
    let mut node = found_by(&dns, "").set("cluster", &authority).launch();
    until_true("it waits for the DNS", ASKED_AGAIN, || {
        node.log().contains("the cluster's memory cannot be found yet")
    });
    dns.be_silent(false);
    node.wait_until_ready();
    tells_no_password(&node.log());
}
