//! `sluicegate`: a layer-7 load balancer with an integrated edge cache for live-video clusters. This package
//! reads the command line and the configuration, assembles the roles, and does nothing else.

use std::process::ExitCode;

use clap::Parser as _;

mod certs;
mod check;
mod cli;
mod doctor;
mod lifecycle;
mod mode;
mod node;
mod say;
mod show;
mod token;
mod upgrade;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit status when the configuration or the command line is wrong: nothing was started.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::complain(&error);
            ExitCode::from(if cli::is_usage(&error) { EXIT_USAGE } else { 1 })
        }
    }
}
