//! The console and REST from elsewhere: a login, or an operator's token. A request that names the node otherwise
//! than by a loopback address is treated as one from elsewhere.

use std::time::Duration;

use sluicegate_e2e::browser;
use sluicegate_e2e::http::{self, Answer};
use sluicegate_e2e::node::{NodeConfig, NodeProcess};

const HOST: &str = "console.example";
const KEY: &str = "only-for-tests-0123456789";
/// Wrong passwords before tries are no longer looked at.
const WRONG_MAX: usize = 5;

/// A node with a password that is made at its start, and that password.
fn start() -> (NodeProcess, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let node = NodeConfig::standalone()
        .set("node", &format!("admin_password_file = {file:?}"))
        .set("cluster", &format!("key = {KEY:?}"))
        .start();
    let log = node.log();
    let told = log.split("the operator's password is ").nth(1).and_then(|rest| rest.split(' ').next());
    let password = told.unwrap_or_else(|| panic!("no password in: {log}")).to_owned();
    (node, password, folder)
}

fn get(url: &str, headers: &[(&str, &str)]) -> Answer {
    http::request("GET", url, &[headers, &[("host", HOST)]].concat(), "")
}

fn log_in(node: &NodeProcess, password: &str, origin: &str) -> Answer {
    let headers = [("host", HOST), ("origin", origin), ("content-type", "application/x-www-form-urlencoded")];
    http::request("POST", &node.node_url("/login"), &headers, &format!("user=operator&password={password}"))
}

#[test]
fn the_console_is_behind_a_login_for_whoever_comes_from_elsewhere() {
    let (node, password, _folder) = start();
    let (page, state) = (node.node_url("/"), node.node_url("/api/v1/cluster"));
    let asked = get(&page, &[]);
    assert!(asked.status == 200 && asked.text().contains("type=\"password\""), "{}", asked.text());
    assert!(asked.header("content-security-policy").contains("frame-ancestors 'none'"));
    assert_eq!(get(&node.node_url("/login.css"), &[]).header("content-type"), "text/css; charset=utf-8");
    assert_eq!(get(&state, &[]).status, 421);
    assert_eq!(http::get(&state).status, 200, "to this machine it is open");

    assert_eq!(log_in(&node, &password, "http://evil.example").status, 403);
    let wrong = log_in(&node, "wrong", &format!("http://{HOST}"));
    assert!(wrong.status == 401 && wrong.text().contains("not the password"), "{}", wrong.text());
    let entered = log_in(&node, &password, &format!("http://{HOST}"));
    assert_eq!((entered.status, entered.header("location")), (303, "./#/cluster"));
    let cookie = entered.header("set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    let session = [("cookie", cookie.split(';').next().unwrap())];
    let console = get(&page, &session);
    assert!(console.text().contains("id=\"console\""), "{}", console.text());
    assert_eq!(get(&state, &session).status, 200);
    assert_eq!(get(&node.node_url("/rest/v2/cluster/node-count"), &session).status, 200);

    let left = http::request("POST", &node.node_url("/logout"), &[session[0], ("host", HOST)], "");
    assert_eq!(left.status, 303);
    assert_eq!(get(&state, &session).status, 421);
    assert!(!node.log().contains(cookie.split(['=', ';']).nth(1).unwrap()), "a session was logged");
}

#[test]
fn an_operator_drains_a_node_in_the_browser_and_logs_out() {
    let (node, password, _folder) = start();
    let ip = node.config().host().ip();
    let url = node.node_url("/").replace(&ip.to_string(), HOST);
    let typed = format!("type:Password:{password}");
    let steps = [
        "type:Password:not this one",
        "press:Log in",
        "sees:That is not the password.",
        &typed,
        "press:Log in",
        "sees:standalone",
        "press:Drain",
        "press:Really drain?",
        "sees:draining",
        "sees:0 of 1",
        "press:Undrain",
        "press:Really undrain?",
        "sees:1 of 1",
        "press:Log out",
        "sees:Password",
    ];
    let left = browser::operate(&url, (HOST, ip.into()), &steps, Duration::from_secs(40));
    assert!(!left.contains("Undrain") && !left.contains("Drain"), "{left}");
}

#[test]
fn tries_run_out() {
    let (node, password, _folder) = start();
    let origin = format!("http://{HOST}");
    for _ in 0..WRONG_MAX {
        assert_eq!(log_in(&node, "wrong", &origin).status, 401);
    }
    let refused = log_in(&node, &password, &origin);
    assert_eq!((refused.status, refused.header("retry-after")), (429, "60"));
    assert!(refused.text().contains("Too many tries"), "{}", refused.text());
}

#[test]
fn an_operators_token_opens_what_a_login_does() {
    let (node, _, _folder) = start();
    let signed = node.config().run(&["token", "admin", "--ttl", "1h"]);
    assert_eq!(signed.code, Some(0), "{}", signed.stderr);
    let token = signed.stdout.trim();
    let bearer = format!("Bearer {token}");
    for url in [
        node.node_url("/api/v1/cluster"),
        node.admin_url("/metrics"),
        node.node_url("/rest/v2/cluster/node-count"),
    ] {
        assert_eq!(get(&url, &[]).status, 421, "{url}");
        assert_eq!(get(&url, &[("authorization", &bearer)]).status, 200, "{url}");
        assert_eq!(get(&url, &[("authorization", "Bearer a.b.c")]).status, 421, "{url}");
    }
    assert!(!node.log().contains(token));
}
