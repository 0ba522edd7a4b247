//! `sluicegate mode cluster|standalone`: what AMS's `change_server_mode.sh` does, to the configuration's file.
//! Only the keys of the database's address and login are touched; comments stay, and so do the records of
//! streams, wherever they are.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sluicegate_cluster::config::ConfigError;
use sluicegate_cluster::limits;
use toml_edit::{DocumentMut, Item, TableLike, Value, table};

/// What the file is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The cluster's memory is in this process.
    Standalone,
    /// It is in MongoDB.
    Cluster {
        /// `mongodb://…` or `mongodb+srv://…`.
        store: String,
        /// Without one, there is no login.
        user: Option<String>,
        /// Without one, what the file says of it stays.
        password: Option<String>,
    },
}

impl Mode {
    /// From the words of a command line: a host or an address, a user, a password (`-`: from standard input).
    pub(crate) fn cluster(
        address: &str,
        user: Option<String>,
        password: Option<String>,
    ) -> anyhow::Result<Self> {
        let store = match address.split_once("://") {
            Some(("mongodb" | "mongodb+srv", _)) => address.to_owned(),
            Some((scheme, _)) => bail!("{scheme}:// is no MongoDB: mongodb://… or mongodb+srv://…"),
            None => format!("mongodb://{address}"),
        };
        let password = if password.as_deref() == Some("-") { Some(read_password()?) } else { password };
        Ok(Self::Cluster { store, user, password })
    }
}

/// Brings `file` to `mode`. The file as it was is kept beside it, as `.bak`.
pub(crate) fn change(file: &Path, mode: &Mode) -> anyhow::Result<String> {
    // A link stays one.
    let file = fs::canonicalize(file).map_err(|why| ConfigError::File { path: file.to_owned(), why })?;
    let text = fs::read_to_string(&file).map_err(|why| ConfigError::File { path: file.clone(), why })?;
    let changed = edit(&text, mode).map_err(|wrong| wrong.at(&file))?;
    let shown = file.display();
    if changed == text {
        return Ok(format!("{shown} says so already"));
    }
    let backup = beside(&file, ".bak");
    replace(&backup, &text, &file)?;
    replace(&file, &changed, &file)?;
    let mut report = format!("{shown} is changed; as it was, it is {}", backup.display());
    let holds_password = matches!(mode, Mode::Cluster { password: Some(_), .. });
    if holds_password && fs::metadata(&file)?.permissions().mode() & 0o044 != 0 {
        report.push_str(
            "\nothers on this machine can read the password in it: chmod 600, or use password_file",
        );
    }
    Ok(report)
}

/// Why a file cannot be edited.
#[derive(Debug)]
struct Wrong {
    line: usize,
    why: String,
}

impl Wrong {
    fn at(self, path: &Path) -> ConfigError {
        ConfigError::Line { path: path.to_owned(), line: self.line, why: self.why }
    }
}

/// `text` in `mode`.
fn edit(text: &str, mode: &Mode) -> Result<String, Wrong> {
    // The error's own text would quote the line, whatever stands in it.
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| Wrong {
        line: e.span().map_or(1, |span| text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1),
        why: e.message().to_owned(),
    })?;
    let cluster = document.entry("cluster").or_insert_with(table);
    let Some(cluster) = cluster.as_table_like_mut() else {
        return Err(Wrong { line: 1, why: "cluster is not a section".to_owned() });
    };
    match mode {
        Mode::Standalone => {
            set(cluster, "store", "embedded");
            remove(cluster, &["user", "password", "password_file"]);
        }
        Mode::Cluster { store, user, password } => {
            set(cluster, "store", store);
            match user {
                None => remove(cluster, &["user", "password", "password_file"]),
                Some(user) => set(cluster, "user", user),
            }
            if let Some(password) = password {
                set(cluster, "password", password);
                remove(cluster, &["password_file"]);
            }
        }
    }
    Ok(document.to_string())
}

/// Sets a key; what stands around an old value stays.
fn set(table: &mut dyn TableLike, key: &str, text: &str) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) if old.as_str() == Some(text) => {}
        Some(old) => {
            let around = old.decor().clone();
            *old = Value::from(text);
            *old.decor_mut() = around;
        }
        None => drop(table.insert(key, toml_edit::value(text))),
    }
}

fn remove(table: &mut dyn TableLike, keys: &[&str]) {
    for key in keys {
        table.remove(key);
    }
}

/// Writes `path` in one step, for the same people as `like`.
fn replace(path: &Path, text: &str, like: &Path) -> anyhow::Result<()> {
    let failed = || format!("writing {}", path.display());
    let (new, owner) = (beside(path, ".new"), fs::metadata(like).with_context(failed)?);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.set_permissions(owner.permissions())?;
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (owner.uid(), owner.gid()) {
            chown(&new, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    let written = write();
    if written.is_err() {
        // What is half written helps nobody.
        let _ = fs::remove_file(&new);
    }
    written.with_context(failed)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

fn read_password() -> anyhow::Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().take(limits::SECRET_BYTES).read_to_string(&mut text);
    read.context("reading a password from standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# My cluster.\nroles = [\"lb\"] # one\n\n[cluster]\n# Where it is.\nstore = \"embedded\" # for now\n\
                        key_file = \"/k\"\n\n[lb]\nthreads = 2\n";

    fn cluster(user: Option<&str>, password: Option<&str>) -> Mode {
        Mode::cluster("10.0.0.5", user.map(str::to_owned), password.map(str::to_owned)).unwrap()
    }

    #[test]
    fn comments_stay_and_a_second_time_changes_nothing() {
        let mode = cluster(Some("ams"), Some("p\"w"));
        let changed = edit(FILE, &mode).unwrap();
        let expect = FILE
            .replace("\"embedded\" #", "\"mongodb://10.0.0.5\" #")
            .replace("\"/k\"\n", "\"/k\"\nuser = \"ams\"\npassword = 'p\"w'\n");
        assert_eq!(changed, expect);
        assert_eq!(edit(&changed, &mode).unwrap(), changed);
        assert_eq!(edit(&changed, &Mode::Standalone).unwrap(), FILE);
        assert_eq!(edit(FILE, &Mode::Standalone).unwrap(), FILE);
    }

    #[test]
    fn a_login_goes_with_its_user_and_a_password_elsewhere_stays() {
        let file = "[cluster]\nuser = \"old\"\npassword_file = \"/p\"\n";
        let renamed = edit(file, &cluster(Some("new"), None)).unwrap();
        assert_eq!(
            renamed,
            "[cluster]\nuser = \"new\"\npassword_file = \"/p\"\nstore = \"mongodb://10.0.0.5\"\n"
        );
        let open = edit(file, &cluster(None, None)).unwrap();
        assert_eq!(open, "[cluster]\nstore = \"mongodb://10.0.0.5\"\n");
        let given = edit(file, &cluster(Some("new"), Some("x"))).unwrap();
        assert!(given.contains("password = \"x\"") && !given.contains("password_file"), "{given}");
    }

    #[test]
    fn any_form_of_a_section_is_edited() {
        for file in [
            "",
            "roles = [\"lb\"]\n",
            "cluster.store = \"embedded\"\n",
            "cluster = { store = \"embedded\" }\n",
        ] {
            let changed = edit(file, &cluster(Some("u"), None)).unwrap();
            let table: toml::Table = toml::from_str(&changed).unwrap();
            assert_eq!(table["cluster"]["store"].as_str(), Some("mongodb://10.0.0.5"), "{changed}");
            assert_eq!(table["cluster"]["user"].as_str(), Some("u"), "{changed}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_line() {
        let wrong = edit("[cluster]\npassword = \"geheim\n", &Mode::Standalone).unwrap_err();
        assert_eq!(wrong.line, 2);
        assert!(!wrong.why.contains("geheim"), "{}", wrong.why);
        assert!(edit("cluster = 1\n", &Mode::Standalone).is_err());
        assert!(Mode::cluster("redis://h", None, None).is_err());
    }

    #[test]
    fn who_may_read_the_file_stays_and_so_does_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.toml"), folder.path().join("link.toml"));
        fs::write(&file, FILE).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        change(&link, &cluster(None, None)).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        for (path, says) in [(file.clone(), "mongodb://10.0.0.5"), (beside(&file, ".bak"), "embedded")] {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640, "{path:?}");
            assert!(fs::read_to_string(&path).unwrap().contains(says), "{path:?}");
        }
        let report = change(&link, &cluster(None, None)).unwrap();
        assert!(report.contains("already"), "{report}");
        assert!(fs::read_to_string(beside(&file, ".bak")).unwrap().contains("embedded"), "the backup stays");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left behind");
    }
}
