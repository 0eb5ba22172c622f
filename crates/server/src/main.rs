//! `ers-server`: arguments, signals, and nothing else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ers_model::SystemClock;
use ers_plan::Place;
use ers_server::commands::Offline;
use ers_server::world::World;
use ers_server::{boot, health, run, standalone, tls};
use ers_store::{Role, Scope};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Parser)]
#[command(name = "ers-server", version, about = "The server of one ReportPolicy: ingest, query, live page")]
struct Cli {
    /// Level or directives of the log, such as `info` or `info,ers_server=debug`.
    #[arg(long, env = "ERS_LOG", default_value = "info,sea_orm_migration=warn", global = true)]
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
        /// Namespace of the operator, whose service account may read.
        #[arg(long, env = "ERS_OPERATOR_NAMESPACE", default_value = "ers-system")]
        operator_namespace: String,
    },
    /// Run on one machine without Kubernetes, with the same kinds as files.
    Standalone {
        /// Folder with the manifests of one ReportPolicy and its CollectorTargets.
        #[arg(long)]
        manifests: PathBuf,
        /// A secretRef is the file `<this folder>/<name>/<key>`.
        #[arg(long)]
        secrets_dir: PathBuf,
        #[arg(long, env = "ERS_DATA_DIR")]
        data_dir: PathBuf,
        /// HTTPS: page, API, remote write.
        #[arg(long, default_value = "127.0.0.1:8443")]
        listen: SocketAddr,
        /// HTTPS: the server's own metrics.
        #[arg(long, default_value = "127.0.0.1:9443")]
        metrics_listen: SocketAddr,
        /// The collector; by default `ers-agent` beside this program.
        #[arg(long)]
        agent_binary: Option<PathBuf>,
        /// Namespace of manifests that name none; those that name another are refused.
        #[arg(long, default_value = "default")]
        namespace: String,
        /// Label `cluster` of every series.
        #[arg(long, env = "ERS_CLUSTER_NAME", default_value = "local")]
        cluster_name: String,
        /// Label `region` of every series.
        #[arg(long, env = "ERS_REGION")]
        region: Option<String>,
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
        data: Data,
        #[arg(long, default_value = "admin")]
        user: String,
    },
    /// Make a user with a random password and print it.
    CreateUser {
        #[command(flatten)]
        data: Data,
        #[arg(long)]
        user: String,
        #[arg(long, default_value = "viewer")]
        role: RoleArgument,
    },
}

#[derive(Args)]
struct Data {
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
        Command::Run { config, data_dir, operator_namespace } => {
            let config = boot::read_config(&config)?;
            let place = Place::kubernetes(config.cluster.clone(), config.region.clone());
            let client =
                kube::Client::try_default().await.context("the API server's address or credential is not known")?;
            let world = World::Kubernetes { client, operator_namespace };
            let options = run::Options { config, place, data_dir, clock: Arc::new(SystemClock), world };
            serve(options, &mut Signals::new()?).await.map(drop)
        }
        Command::Standalone {
            manifests,
            secrets_dir,
            data_dir,
            listen,
            metrics_listen,
            agent_binary,
            namespace,
            cluster_name,
            region,
        } => {
            let settings = standalone::Settings {
                manifests,
                secrets_dir,
                data_dir,
                namespace,
                cluster: cluster_name,
                region,
                listen,
                metrics_listen,
                agent_binary: agent_binary.or_else(agent_beside_us),
            };
            run_standalone(settings).await
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
        Command::Admin(AdminCommand::ResetPassword { data, user }) => {
            let offline = Offline::open(&data.data_dir, &SystemClock).await?;
            println!("{}", offline.reset_password(&user).await?);
            Ok(())
        }
        Command::Admin(AdminCommand::CreateUser { data, user, role }) => {
            let role = match role {
                RoleArgument::Viewer => Role::Viewer,
                RoleArgument::Admin => Role::Admin,
            };
            let offline = Offline::open(&data.data_dir, &SystemClock).await?;
            println!("{}", offline.create_user(&user, role).await?);
            Ok(())
        }
    }
}

/// SIGTERM and SIGINT, heard from the first moment on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn heard(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Why a server was stopped.
enum Ended {
    Signal,
    /// Its policy asks for other boot settings.
    OtherSettings,
}

async fn serve(options: run::Options, signals: &mut Signals) -> anyhow::Result<Ended> {
    let running = run::start(options).await?;
    let restart = running.app.restart.clone();
    let ended = tokio::select! {
        () = signals.heard() => Ended::Signal,
        () = restart.cancelled() => Ended::OtherSettings,
    };
    running.stop().await;
    Ok(ended)
}

async fn run_standalone(settings: standalone::Settings) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    loop {
        let (config, place) = settings.plan()?;
        let options = run::Options {
            config,
            place,
            data_dir: settings.data_dir.clone(),
            clock: Arc::new(SystemClock),
            world: World::Standalone(settings.clone()),
        };
        match serve(options, &mut signals).await? {
            Ended::Signal => return Ok(()),
            Ended::OtherSettings => tracing::info!("the policy asks for other boot settings, starting again with them"),
        }
    }
}

fn agent_beside_us() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.with_file_name("ers-agent");
    beside.is_file().then_some(beside)
}
