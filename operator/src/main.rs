//! `ers-operator`: the control plane.
//!
//! `run` reconciles and serves admission; `crds` prints the definitions; `check` judges manifests offline with the code
//! of admission; `health` asks a running operator on this machine whether it is ready.

mod arguments;
mod check;
mod definitions;
mod gate;
mod health;
mod lease;
mod metrics;
mod run;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    // First of all: one crypto provider for the whole process.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("another crypto provider was installed before ours");
        return ExitCode::FAILURE;
    }
    let result = match Arguments::parse().command {
        Command::Run(settings) => run::run(*settings),
        Command::Crds => definitions::print(),
        Command::Check(files) => return check::check(&files),
        Command::Health(address) => health::health(&address),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ers-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
