//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sluicegate_cluster::config::{ConfigError, Settings, Sources};
use sluicegate_cluster::ids::{AppName, StreamName};
use sluicegate_cluster::membership::JoinError;
use sluicegate_cluster::store::StoreError;
use toml::{Table, Value};

use crate::mode::{self, Mode};
use crate::say::say;
use crate::{certs, check, doctor, node, show, token};

/// A layer-7 load balancer with an integrated edge cache for live-video clusters.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All roles in this process, the cluster's memory embedded.
    Standalone(ConfigArgs),
    /// The roles that the configuration names.
    Run(ConfigArgs),
    /// Is the configuration valid, and what does it resolve to? Exit status 2 with the line when it is not.
    Check(ConfigArgs),
    /// Changes the configuration's file: where the cluster's memory is.
    Mode {
        #[command(subcommand)]
        command: ModeCommand,
    },
    /// The cluster's nodes; or what happens if one of them dies now.
    Nodes {
        #[command(flatten)]
        admin: AdminArgs,
        /// Who would carry the streams and viewers of this node, and does it fit?
        #[arg(long, value_name = "NODE")]
        without: Option<String>,
    },
    /// The live streams.
    Streams(AdminArgs),
    /// Why a stream is where it is, or where it would go: the candidates, their load, and the reason. Asks a balancer.
    Why {
        /// `app/stream`
        #[arg(value_name = "APP/STREAM")]
        stream: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Takes a node out of placement: it serves what it has, its publishers are moved to other origins, its
    /// viewers go elsewhere with their next request. Until `undrain`, or until its process ends.
    Drain(NodeArgs),
    /// Lets a drained node take work again.
    Undrain(NodeArgs),
    /// Certificates.
    Certs {
        #[command(subcommand)]
        command: CertsCommand,
    },
    /// Publish and play tokens.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// File limits, ports, MongoDB, FFmpeg's codecs, GPUs: what this machine can carry.
    Doctor {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration's file. `SLUICEGATE_*` variables override it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// This node's id, over the file and the variables.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

#[derive(Debug, Args)]
struct AdminArgs {
    /// The admin listener of any node.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9180")]
    admin: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct NodeArgs {
    /// The node's id.
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// A development CA and a certificate for this host. Existing files are kept.
    Dev {
        /// Where to write them.
        #[arg(long, value_name = "FOLDER", default_value = "certs/dev")]
        out: PathBuf,
        /// More DNS names or addresses for the certificate.
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum ModeCommand {
    /// In MongoDB, which other nodes use too. Without USER there is no login.
    Cluster {
        /// A host, `mongodb://…` or `mongodb+srv://…`.
        mongodb: String,
        /// The user to log in as.
        user: Option<String>,
        /// The user's password; `-` reads it from standard input. What the file says of it stays without one.
        password: Option<String>,
        /// The file to change.
        #[arg(long, value_name = "FILE", default_value = "sluicegate.toml")]
        config: PathBuf,
    },
    /// In this process alone.
    Standalone {
        /// The file to change.
        #[arg(long, value_name = "FILE", default_value = "sluicegate.toml")]
        config: PathBuf,
    },
}

impl ModeCommand {
    /// Changes the file, and says what is still missing from it.
    fn run(self) -> anyhow::Result<String> {
        let (mode, config) = match self {
            Self::Cluster { mongodb, user, password, config } => {
                (Mode::cluster(&mongodb, user, password)?, config)
            }
            Self::Standalone { config } => (Mode::Standalone, config),
        };
        let report = mode::change(&config, &mode)?;
        let missing = ConfigArgs { config: Some(config), id: None }.settings(false).err();
        Ok(report + &missing.map(|why| format!("\nit cannot be started yet: {why}")).unwrap_or_default())
    }
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Sign a token with the application's first key.
    Sign {
        #[command(flatten)]
        config: ConfigArgs,
        /// The application.
        #[arg(long)]
        app: AppName,
        /// The stream.
        #[arg(long)]
        stream: StreamName,
        /// What it allows.
        #[arg(long = "type")]
        purpose: token::Purpose,
        /// How long it holds: 90s, 15m, 2h, 7d.
        #[arg(long, value_parser = token::ttl, default_value = "1h")]
        ttl: Duration,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sign an operator's token with the cluster's key: for the console's addresses and REST, from anywhere.
    Admin {
        #[command(flatten)]
        config: ConfigArgs,
        /// How long it holds: 90s, 15m, 2h, 7d.
        #[arg(long, value_parser = token::ttl, default_value = "1h")]
        ttl: Duration,
    },
    /// What a token says, and whether it holds now. Exit status 1 when it does not.
    Inspect {
        #[command(flatten)]
        config: ConfigArgs,
        /// The token; `-` reads it from standard input.
        token: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl TokenCommand {
    fn run(self) -> anyhow::Result<String> {
        match self {
            Self::Sign { config, app, stream, purpose, ttl, json } => {
                token::sign(&config.settings(false)?, &app, &stream, purpose, ttl, json)
            }
            Self::Admin { config, ttl } => {
                let settings = config.settings(false)?;
                Ok(settings.cluster.key.admin_token(&settings.node.id, ttl)?)
            }
            Self::Inspect { config, token, json } => token::inspect(&config.settings(false)?, &token, json),
        }
    }
}

impl Cli {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Standalone(args) => node::run(&args.settings(true)?),
            Command::Run(args) => node::run(&args.settings(false)?),
            Command::Check(args) => say(&check::describe(&args.settings(false)?)),
            Command::Mode { command } => say(&command.run()?),
            Command::Nodes { admin, without: None } => say(&show::nodes(&admin.admin, admin.json)?),
            Command::Nodes { admin, without: Some(node) } => {
                say(&show::without(&admin.admin, &node, admin.json)?)
            }
            Command::Why { stream, admin } => say(&show::why(&admin.admin, &stream, admin.json)?),
            Command::Streams(args) => say(&show::streams(&args.admin, args.json)?),
            Command::Drain(args) => {
                say(&show::set_drain(&args.admin.admin, &args.node, true, args.admin.json)?)
            }
            Command::Undrain(args) => {
                say(&show::set_drain(&args.admin.admin, &args.node, false, args.admin.json)?)
            }
            Command::Certs { command: CertsCommand::Dev { out, name } } => say(&certs::dev(&out, &name)?),
            Command::Token { command } => say(&command.run()?),
            Command::Doctor { config, json } => say(&doctor::examine(&config.settings(false)?, json)?),
        }
    }
}

impl ConfigArgs {
    /// The settings. A standalone node has all roles and an embedded store, whatever the file says.
    fn settings(&self, standalone: bool) -> Result<Settings, ConfigError> {
        let mut command_line = Table::new();
        if let Some(id) = &self.id {
            command_line.insert("node".to_owned(), Value::Table(Table::from_iter([text("id", id)])));
        }
        if standalone {
            let roles = ["lb", "edge", "origin"].map(|r| Value::String(r.to_owned()));
            command_line.insert("roles".to_owned(), Value::Array(roles.to_vec()));
            command_line
                .insert("cluster".to_owned(), Value::Table(Table::from_iter([text("store", "embedded")])));
        }
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Sources {
            file: self.config.clone(),
            variables: std::env::vars().collect(),
            command_line,
            host_name: host_name.trim().to_owned(),
        }
        .load()
    }
}

fn text(key: &str, value: &str) -> (String, Value) {
    (key.to_owned(), Value::String(value.to_owned()))
}

/// Whether nothing was started because of what the operator wrote: a configuration that is wrong, a port in
/// use, a certificate that cannot be read, an id that is taken, a database whose address or login is wrong.
pub(crate) fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<ConfigError>()
        || error.is::<sluicegate_lb::StartError>()
        || error.is::<JoinError>()
        || matches!(
            error.downcast_ref(),
            Some(StoreError::Address(_) | StoreError::Refused(_) | StoreError::Password(_))
        )
        || error.is::<doctor::Unhealthy>()
}
