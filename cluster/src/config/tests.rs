//! What the configuration accepts, refuses, and in which words.

use std::io::Write as _;

use super::*;
use crate::node::Role;

fn from_file(text: &str, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Sources {
        file: Some(file.path().to_owned()),
        variables: variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        command_line: Table::new(),
        host_name: "host".to_owned(),
    }
    .load()
}

#[track_caller]
fn refused(text: &str, variables: &[(&str, &str)], expect: &str) {
    let error = from_file(text, variables).expect_err("accepted").to_string();
    assert!(error.contains(expect), "{error}");
    assert!(!error.contains('\n'), "one line: {error}");
}

#[test]
fn an_empty_file_is_a_standalone_node_of_all_roles() {
    let settings = from_file("", &[]).unwrap();
    assert_eq!(settings.roles, [Role::Lb, Role::Edge, Role::Origin]);
    assert_eq!(settings.node.id.as_str(), "host");
    assert_eq!(settings.node.http.to_string(), "127.0.0.1:5081");
    assert_eq!(settings.lb.http[0].to_string(), "0.0.0.0:5080");
    assert!(settings.lb.https.is_empty());
    assert_eq!(settings.apps[0].name.as_str(), "live");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    refused("[lb]\n\nhtpp = [\"0.0.0.0:80\"]\n", &[], ":3: unknown field `htpp`");
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_its_line() {
    refused("[node]\nhttp = \"localhost\"\n", &[], ":2: ");
    refused("roles = [\"edge\", \"core\"]\n", &[], ":1: ");
    refused("[lb\n", &[], ":1: ");
}

#[test]
fn variables_override_the_file_and_the_command_line_overrides_both() {
    let file = "[node]\nid = \"file\"\ngroup = \"file\"\n[lb]\nthreads = 1\n";
    let settings =
        from_file(file, &[("SLUICEGATE_NODE_ID", "variable"), ("SLUICEGATE_LB_HTTP", "[\"127.0.0.2:80\"]")])
            .unwrap();
    assert_eq!(settings.node.id.as_str(), "variable");
    assert_eq!(settings.node.group, "file");
    assert_eq!(settings.lb.http[0].to_string(), "127.0.0.2:80");

    let command_line: Table = toml::from_str("[node]\nid = \"typed\"").unwrap();
    let sources = Sources {
        variables: vec![("SLUICEGATE_NODE_ID".to_owned(), "variable".to_owned())],
        command_line,
        host_name: "host".to_owned(),
        ..Sources::default()
    };
    assert_eq!(sources.load().unwrap().node.id.as_str(), "typed");
}

#[test]
fn a_variable_that_is_no_key_is_named() {
    refused("", &[("SLUICEGATE_LB_HTPP", "1")], "SLUICEGATE_LB_HTPP: unknown field `htpp`");
    refused("", &[("SLUICEGATE_COLOUR", "red")], "SLUICEGATE_COLOUR: not a key");
    from_file("", &[("SLUICEGATE_LOG", "debug"), ("SLUICEGATE_TEST_MONGODB", "x")]).unwrap();
}

#[test]
fn a_cluster_needs_a_key_and_an_address() {
    let store = "[cluster]\nstore = \"mongodb://127.0.0.1\"\n";
    refused(store, &[], "cluster.key: ");
    refused(store, &[("SLUICEGATE_CLUSTER_KEY", "short")], "cluster.key: ");
    let key = ("SLUICEGATE_CLUSTER_KEY", "0123456789abcdef0123456789abcdef");
    let edge = format!("roles = [\"edge\"]\n{store}");
    refused(&edge, &[key], "node.advertise: ");
    from_file(&format!("{edge}[node]\nadvertise = \"10.0.0.1\"\n"), &[key]).unwrap();
    refused("[cluster]\nstore = \"redis://x\"\n", &[], "cluster.store: ");
}

#[test]
fn in_a_cluster_what_others_reach_is_not_on_loopback() {
    let key = ("SLUICEGATE_CLUSTER_KEY", "0123456789abcdef0123456789abcdef");
    let all = "[cluster]\nstore = \"mongodb://127.0.0.1\"\n";
    refused(all, &[key], "node.advertise: ");
    let settings = from_file(&format!("{all}[node]\nadvertise = \"10.0.0.1\"\n"), &[key]).unwrap();
    assert_eq!(settings.node.http.to_string(), "10.0.0.1:5081");
    assert_eq!(settings.origin.rtmp.to_string(), "10.0.0.1:19350");
    let balancer = from_file(&format!("roles = [\"lb\"]\n{all}"), &[key]).unwrap();
    assert_eq!(balancer.node.http.to_string(), "127.0.0.1:5081");
}

#[test]
fn secrets_are_not_shown() {
    let file = "[node]\nadvertise = \"10.0.0.1\"\n[cluster]\nstore = \"mongodb://u:hidden1@127.0.0.1\"\nuser = \"v\"\npassword = \"hidden2\"\n\
                key = \"hidden3-0123456789abcdef\"\n";
    let shown = format!("{:?}", from_file(file, &[]).unwrap());
    assert!(!shown.contains("hidden"), "{shown}");
}

#[test]
fn what_is_wrong_with_a_secret_is_told_without_it() {
    let mongo = "[node]\nadvertise = \"10.0.0.1\"\n[cluster]\nstore = \"mongodb://h\"\nuser = \"u\"\n";
    for line in ["password = 74657", "key = [\"74657\"]", "password = { a = 74657 }", "password = \"74657"] {
        let error = from_file(&format!("{mongo}{line}\n"), &[]).expect_err(line).to_string();
        assert!(!error.contains("74657"), "{error}");
    }
    let app = "[[app]]\nname = \"live\"\ntoken_keys = [{ id = \"a\", key = \"74657\" }]\n";
    let error = from_file(app, &[]).unwrap_err().to_string();
    assert!(error.contains("app.token_keys: a: ") && !error.contains("74657"), "{error}");
}

#[test]
fn a_secret_comes_from_the_file_a_variable_or_a_file_of_its_own() {
    let password = |text: &str, variables: &[(&str, &str)]| {
        let key = ("SLUICEGATE_CLUSTER_KEY", "0123456789abcdef");
        let text = format!("roles = [\"lb\"]\n[cluster]\nstore = \"mongodb://h\"\nuser = \"u\"\n{text}");
        let StoreSettings::Mongo(address) = from_file(&text, &[&[key], variables].concat())?.cluster.store
        else {
            panic!("embedded")
        };
        Ok::<_, ConfigError>(address.password.map_or_else(String::new, |password| password.read().unwrap()))
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b" in a file \r\n").unwrap();
    let in_file = format!("password_file = {:?}\n", file.path());
    let variable = [("SLUICEGATE_CLUSTER_PASSWORD", "007")];
    assert_eq!(password("password = \"written\"", &[]).unwrap(), "written");
    assert_eq!(password(&in_file, &[]).unwrap(), " in a file ");
    assert_eq!(password("password = \"written\"", &variable).unwrap(), "007", "text, not a number");
    assert_eq!(password(&in_file, &variable).unwrap(), "007", "a variable replaces either");
    let error = password(&format!("password = \"written\"\n{in_file}"), &[]).unwrap_err().to_string();
    assert!(error.contains("cluster.password: ") && error.contains("two places"), "{error}");
    let error = password("password_file = \"/nowhere\"", &[]).unwrap_err().to_string();
    assert!(error.contains("cluster.password: /nowhere: "), "{error}");
    let error = password("password_file = \"/dev/zero\"", &[]).unwrap_err().to_string();
    assert!(error.contains("longer than"), "{error}");
}

#[test]
fn keys_of_tokens_come_from_three_places_and_gates_need_one() {
    let app = |keys: &str| format!("[[app]]\nname = \"live\"\npublish = \"token\"\n{keys}\n");
    refused(&app(""), &[], "app.token_keys: live asks for tokens");
    refused(&app("token_keys = [{ id = \"a\" }]"), &[], "app.token_keys: a: set key, ");
    refused(&app("token_keys = [{ id = \"a\", key_env = \"LIVE\" }]"), &[], "the variable LIVE is not set");
    refused("[[app]]\nname = \"live\"\nplay = \"closed\"\n", &[], ":3: ");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"the key of this year\n").unwrap();
    let keys = format!(
        "token_keys = [{{ id = \"a\", key_file = {:?} }}, {{ id = \"b\", key_env = \"LIVE\" }}, \
         {{ id = \"c\", key = \"the key of an hour\" }}]",
        file.path()
    );
    let settings = from_file(&app(&keys), &[("LIVE", "the key of last year")]).unwrap();
    assert_eq!(settings.apps[0].token_keys.ids(), ["a", "b", "c"]);
    assert_eq!((settings.apps[0].publish, settings.apps[0].play), (Gate::Token, Gate::Open));
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    refused("[[app]]\nname = \"live\"\nwindow = 2\n", &[], "app.window: ");
    refused("[[app]]\nname = \"live\"\nsegment_s = 60\n", &[], "app.segment_s: ");
    refused("[[app]]\nname = \"live\"\npart_s = 0.05\n", &[], "app.part_s: ");
    refused("[[app]]\nname = \"live\"\nsegment_s = 0.5\npart_s = 1\n", &[], "app.part_s: ");
    refused("[[app]]\nname = \"a\"\n[[app]]\nname = \"a\"\n", &[], "app.name: a is there twice");
    refused("[origin]\ncapacity_mpx = -1\n", &[], "origin.capacity_mpx: ");
    refused("[origin]\nencoder = \"h264\"\n", &[], "unknown variant `h264`");
    refused("[origin]\ndecoder = \"x264\"\n", &[], "unknown variant `x264`");
    refused("[limits]\ngpu_percent = 101\n", &[], "limits.gpu_percent: ");
    refused("[limits]\nedge_fills = 0\n", &[], "limits.edge_fills: ");
    refused("[lb]\nhttps = [\"0.0.0.0:443\"]\n", &[], "lb.https: ");
}
