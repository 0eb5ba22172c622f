//! Chores of the tree: `cargo xtask generate [--check]` and `cargo xtask tidy`.

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

mod edges;
mod generate;
mod reference;
mod tidy;
mod tree;

#[derive(Parser)]
#[command(about = "Chores of the tree")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Write the generated files anew: CRDs, the chart's and kustomize's copies, the reference pages.
    Generate {
        /// Write nothing; fail if a file differs from what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Hold the tree to the rules of the house: who may depend on whom, sizes of files, words that must not stay.
    Tidy,
}

fn main() -> Result<()> {
    let root = tree::root()?;
    match Arguments::parse().chore {
        Chore::Generate { check: false } => {
            for path in generate::write(&root)? {
                println!("wrote {path}");
            }
            Ok(())
        }
        Chore::Generate { check: true } => {
            let stale = generate::stale(&root)?;
            if stale.is_empty() {
                println!("all generated files are fresh");
                return Ok(());
            }
            bail!("stale, run `cargo xtask generate`:\n  {}", stale.join("\n  "))
        }
        Chore::Tidy => {
            let faults = tidy::faults(&root)?;
            if faults.is_empty() {
                println!("tidy");
                return Ok(());
            }
            bail!("{} faults:\n  {}", faults.len(), faults.join("\n  "))
        }
    }
}
