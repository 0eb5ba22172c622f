//! `ers-agent`: arguments and environment in, exit code out.

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use ers_agent::host::{Host, Options, Roots};
use ers_agent::run::{RunOptions, run};
use ers_agent::samples::Samples;
use ers_agent::source::kubelet::KubeletSource;
use ers_agent::source::pods::KubeApi;
use ers_agent::{config, ready, state};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Collects metrics of this node and ships them to an ERS server. Listens on nothing.
#[derive(Parser)]
#[command(name = "ers-agent", version)]
struct Arguments {
    /// What is logged: a level, or directives such as info,ers_agent=debug.
    #[arg(long, env = "ERS_LOG", default_value = "info", global = true)]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Collect and ship until SIGTERM.
    Run(RunArguments),
    /// Exit with 0 iff the agent that runs here has had a batch acknowledged.
    Health {
        #[arg(long)]
        ready_file: PathBuf,
    },
    /// Read a configuration and say what is wrong with it.
    Check {
        #[arg(long)]
        config: PathBuf,
    },
    /// Print this machine's metrics once, as node_exporter would.
    Collect {
        #[command(flatten)]
        roots: RootArguments,
        /// Collect so many times before printing; the duration of each goes to standard error.
        #[arg(long, default_value_t = 1)]
        times: u32,
    },
    /// Give a state directory to the user that the agent runs as, and end. For an init container that runs as root.
    PrepareState {
        #[arg(long)]
        state_dir: PathBuf,
        /// `uid:gid`
        #[arg(long, default_value = "65534:65534")]
        owner: String,
    },
    /// Look at a spool that no agent is using.
    Spool {
        #[command(subcommand)]
        command: SpoolCommand,
    },
    /// Serve this machine's metrics over plain HTTP on loopback: to compare with other exporters.
    #[command(hide = true)]
    Serve {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: std::net::SocketAddr,
        #[command(flatten)]
        roots: RootArguments,
    },
}

#[derive(Subcommand)]
enum SpoolCommand {
    /// List the batches that wait.
    Ls(SpoolArguments),
    /// Read every record; exit with 1 when something is damaged.
    Verify(SpoolArguments),
}

#[derive(Args)]
struct SpoolArguments {
    /// Configuration of the agent whose spool it is.
    #[arg(long)]
    config: PathBuf,
    #[arg(long, default_value = "/var/lib/ers-agent")]
    state_dir: PathBuf,
}

#[derive(Args)]
struct RunArguments {
    #[arg(long)]
    config: PathBuf,
    /// Where samples wait that could not be sent yet.
    #[arg(long, default_value = "/var/lib/ers-agent")]
    state_dir: PathBuf,
    /// Written when the server has acknowledged the first batch.
    #[arg(long)]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    roots: RootArguments,
    /// Name of the node; without it the machine's own name.
    #[arg(long, env = "NODE_NAME")]
    node_name: Option<String>,
    /// Address of the node, for its kubelet.
    #[arg(long, env = "HOST_IP")]
    host_ip: Option<String>,
    /// End when standard input closes, as a supervisor asks for that must not leave agents behind.
    #[arg(long)]
    end_with_stdin: bool,
    #[arg(long, default_value_t = KubeletSource::PORT, hide = true)]
    kubelet_port: u16,
    /// Folder with `token` and `ca.crt` of the pod's service account.
    #[arg(long, default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    service_account: PathBuf,
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", hide = true)]
    api_host: Option<String>,
    #[arg(long, env = "KUBERNETES_SERVICE_PORT", hide = true)]
    api_port: Option<String>,
}

#[derive(Args)]
struct RootArguments {
    /// The host's /proc; by default /host/proc where it is mounted, else /proc.
    #[arg(long)]
    procfs: Option<PathBuf>,
    /// The host's /sys; by default /host/sys where it is mounted, else /sys.
    #[arg(long)]
    sysfs: Option<PathBuf>,
    /// The host's root; by default /host/root where it is mounted, else /.
    #[arg(long)]
    rootfs: Option<PathBuf>,
    /// Folder with *.prom files of others.
    #[arg(long)]
    textfile_dir: Option<PathBuf>,
}

impl RootArguments {
    fn roots(self) -> Roots {
        let choose = |given: Option<PathBuf>, mounted: &str, own: &str| {
            given.unwrap_or_else(|| if Path::new(mounted).is_dir() { mounted.into() } else { own.into() })
        };
        let mut roots = Roots::new(
            choose(self.procfs, "/host/proc", "/proc"),
            choose(self.sysfs, "/host/sys", "/sys"),
            choose(self.rootfs, "/host/root", "/"),
        );
        roots.textfile = self.textfile_dir;
        roots
    }
}

fn main() -> ExitCode {
    // Before anything can make a connection: one provider of cryptography in the whole program.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("ers-agent: another provider of cryptography is installed");
        return ExitCode::FAILURE;
    }
    match execute(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ers-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Run(given) => {
            ers_telemetry::init(&arguments.log)?;
            let node = match given.node_name {
                Some(node) if !node.is_empty() => node,
                _ => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            };
            run(&RunOptions {
                config: given.config,
                state_dir: given.state_dir,
                ready_file: given.ready_file,
                roots: given.roots.roots(),
                node,
                host_ip: given.host_ip.filter(|address| !address.is_empty()),
                in_cluster: given.api_host.is_some(),
                api: KubeApi::from_variables(given.api_host, given.api_port, given.service_account.clone()),
                service_account: given.service_account,
                kubelet_port: given.kubelet_port,
                end_with_stdin: given.end_with_stdin,
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Health { ready_file } => {
            ready::check(&ready_file)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { config } => {
            let config = config::load(&config)?;
            println!("{} sources, configuration {} of {}", config.sources.len(), config.config_hash, config.target);
            Ok(ExitCode::SUCCESS)
        }
        Command::Collect { roots, times } => {
            let mut host = Host::new(&Options::for_roots(roots.roots()));
            let mut samples = Samples::default();
            for _ in 0..times.max(1) {
                let began = std::time::Instant::now();
                host.collect(&mut samples);
                if times > 1 {
                    eprintln!("{} samples in {:?}", samples.len(), began.elapsed());
                }
            }
            let mut text = String::new();
            samples.write_text(&mut text);
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Command::PrepareState { state_dir, owner } => {
            let (uid, gid) = owner.split_once(':').context("--owner is uid:gid")?;
            let (uid, gid) = (uid.parse().context("--owner: uid")?, gid.parse().context("--owner: gid")?);
            state::prepare(&state_dir, uid, gid)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Spool { command } => {
            let (given, list) = match command {
                SpoolCommand::Ls(given) => (given, true),
                SpoolCommand::Verify(given) => (given, false),
            };
            let report = state::inspect(&given.state_dir, &config::load(&given.config)?)?;
            if list {
                for batch in &report.waiting {
                    let state::Waiting { id, samples, created_ms, bytes } = batch;
                    println!("{id} created {created_ms} ms, {samples} samples, {bytes} bytes");
                }
            }
            println!(
                "{} batches wait, {} samples; {} records, {} damaged bytes, {} files set aside",
                report.waiting.len(),
                report.waiting.iter().map(|batch| u64::from(batch.samples)).sum::<u64>(),
                report.records,
                report.damaged_bytes,
                report.quarantined
            );
            let is_sound = report.damaged_bytes == 0 && report.quarantined == 0;
            Ok(if list || is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Serve { listen, roots } => {
            if !listen.ip().is_loopback() {
                bail!("--listen must be a loopback address: this is for comparisons on one machine");
            }
            ers_agent::serve::serve(listen, &Options::for_roots(roots.roots()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
