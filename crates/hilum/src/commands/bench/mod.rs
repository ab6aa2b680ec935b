//! `hilum bench`: figures, each beside the raw engine's of the same run. Nothing here is part of serving.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

pub mod adt;
pub mod client;
pub mod fhir;
pub mod generate;
pub mod many;
pub mod parse;
pub mod process;
pub mod send;

/// Measures hilum on this machine.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hilum bench adt                       everything that docs/BENCHMARKS.md reports\n  \
                        hilum bench adt --messages 20000      a quick look\n  \
                        hilum bench adt --engines kafka,postgres   on servers of its own, beside their bare clients\n  \
                        hilum bench fhir --bundles fhir/ --quick   the FHIR window over a population, Synthea's say\n  \
                        hilum bench parse                     parser alone, one core\n  \
                        hilum bench generate --out feed.hl7   the feed itself"
)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The main job: real sockets, durable acknowledgments, chart and census, with a sender in its own process
    Adt(adt::Adt),
    /// FHIR: import, reads, searches, pages, disk and memory, each per CPU-second of the server
    Fhir(fhir::Fhir),
    /// What a server does at least: an empty handler, and a point read of SQLite
    #[command(hide = true, after_help = "Example:\n  hilum bench floor bodies.sqlite")]
    Floor(fhir::floor::Floor),
    /// Parse and nine census fields, escapes and charset on, one core
    Parse(parse::Parse),
    /// Write the seeded feed to a file
    Generate(generate::Generate),
    /// Send the seeded feed to an MLLP address and report what was acknowledged
    Send(send::Send),
}

/// A number of which there must be one: of nothing there is no figure.
fn at_least_one(raw: &str) -> Result<usize, String> {
    match raw.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a whole number".to_owned()),
    }
}

/// What every feed of a bench is made of.
#[derive(Debug, Clone, Copy, Args)]
pub struct Feed {
    /// Number of messages
    #[arg(long, default_value_t = 100_000, value_parser = at_least_one)]
    pub messages: usize,
    /// Seed of the feed: the same seed writes the same bytes
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Feed {
    /// The messages in the order of arrival.
    pub fn make(self) -> Vec<Vec<u8>> {
        let shape = crate::generate::stream::Shape { messages: self.messages, ..Default::default() };
        crate::generate::stream::messages(self.seed, start(), shape)
    }
}

/// The feed's first instant: fixed, so that the bytes are a function of the seed.
pub fn start() -> hilum_core::Timestamp {
    hilum_core::Timestamp::from_micros(1_767_225_600_000_000)
}

/// Runs the command.
///
/// # Errors
/// Says what could not be measured and why.
pub fn run(bench: Bench) -> Result<()> {
    match bench.what {
        What::Adt(adt) => adt::run(&adt),
        What::Fhir(fhir) => fhir::run(&fhir),
        What::Floor(floor) => fhir::floor::run(&floor),
        What::Parse(parse) => parse::run(&parse),
        What::Generate(generate) => generate::run(&generate),
        What::Send(send) => send::run(&send),
    }
}

/// A folder for the server under test that goes away afterwards.
#[derive(Debug)]
pub struct Scratch(pub PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(fault) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %fault, "scratch folder stays");
        }
    }
}
