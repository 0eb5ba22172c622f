//! `ers-server`: arguments, signals, and nothing else.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ers_model::SystemClock;
use ers_server::commands::Offline;
use ers_server::{boot, health, run, tls};
use ers_store::{Role, Scope};

#[derive(Parser)]
#[command(name = "ers-server", version, about = "The server of one ReportPolicy: ingest, query, live page")]
struct Cli {
    /// Level or directives of the log, such as `info` or `info,ers_server=debug`.
    #[arg(long, env = "ERS_LOG", default_value = "info", global = true)]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run with the boot settings that the operator made.
    Run {
        #[arg(long, env = "ERS_CONFIG")]
        config: PathBuf,
        #[arg(long, env = "ERS_DATA_DIR")]
        data_dir: PathBuf,
    },
    /// Ask a server on this machine whether it is ready.
    Health {
        #[arg(long, env = "ERS_DATA_DIR")]
        data_dir: PathBuf,
        #[arg(long, default_value = "https://127.0.0.1:8443")]
        url: String,
        /// Authority to verify with, if the server does not use a certificate of its own making.
        #[arg(long)]
        ca_file: Option<PathBuf>,
    },
    /// API tokens, without the page.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Users, without the page.
    #[command(subcommand)]
    Admin(AdminCommand),
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a token and print it.
    Create {
        #[arg(long, env = "ERS_DATA_DIR")]
        data_dir: PathBuf,
        #[arg(long)]
        name: String,
        /// May be given several times.
        #[arg(long = "scope", required = true)]
        scopes: Vec<ScopeArgument>,
        /// Days until it ends; without it, it never does.
        #[arg(long)]
        expires_in_days: Option<u32>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum ScopeArgument {
    Read,
    Write,
    Admin,
}

impl From<ScopeArgument> for Scope {
    fn from(argument: ScopeArgument) -> Self {
        match argument {
            ScopeArgument::Read => Scope::Read,
            ScopeArgument::Write => Scope::Write,
            ScopeArgument::Admin => Scope::Admin,
        }
    }
}

#[derive(Subcommand)]
enum AdminCommand {
    /// Give a user a new random password, end the user's sessions, and print the password.
    ResetPassword {
        #[command(flatten)]
        place: Place,
        #[arg(long, default_value = "admin")]
        user: String,
    },
    /// Make a user with a random password and print it.
    CreateUser {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        user: String,
        #[arg(long, default_value = "viewer")]
        role: RoleArgument,
    },
}

#[derive(Args)]
struct Place {
    #[arg(long, env = "ERS_DATA_DIR")]
    data_dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArgument {
    Viewer,
    Admin,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One crypto provider for everything in this process, before anything can ask for one.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("ers-server: another crypto provider is installed already");
        return ExitCode::FAILURE;
    }
    if let Err(error) = ers_telemetry::init(&cli.log) {
        eprintln!("ers-server: {error}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ers-server: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(execute(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For people on the terminal and for whoever reads the pod's last message.
            eprintln!("ers-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run { config, data_dir } => {
            let config = boot::read_config(&config)?;
            serve(run::Options { config, data_dir, clock: Arc::new(SystemClock) }).await
        }
        Command::Health { data_dir, url, ca_file } => {
            let authorities = match ca_file {
                Some(path) => {
                    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?
                }
                None => tls::own_authorities(&data_dir.join("tls.json"))?,
            };
            health::ask(&url, &authorities).await
        }
        Command::Token(TokenCommand::Create { data_dir, name, scopes, expires_in_days }) => {
            let scopes: Vec<Scope> = scopes.into_iter().map(Scope::from).collect();
            let offline = Offline::open(&data_dir, &SystemClock).await?;
            println!("{}", offline.create_token(&name, &scopes, expires_in_days).await?);
            Ok(())
        }
        Command::Admin(AdminCommand::ResetPassword { place, user }) => {
            let offline = Offline::open(&place.data_dir, &SystemClock).await?;
            println!("{}", offline.reset_password(&user).await?);
            Ok(())
        }
        Command::Admin(AdminCommand::CreateUser { place, user, role }) => {
            let role = match role {
                RoleArgument::Viewer => Role::Viewer,
                RoleArgument::Admin => Role::Admin,
            };
            let offline = Offline::open(&place.data_dir, &SystemClock).await?;
            println!("{}", offline.create_user(&user, role).await?);
            Ok(())
        }
    }
}

async fn serve(options: run::Options) -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let running = run::start(options).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    running.stop().await;
    Ok(())
}
