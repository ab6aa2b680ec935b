//! `hilum bench generate`: the seeded feed as a file.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::Feed;

/// Writes the feed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hilum bench generate --messages 1000 --seed 7 --out feed.hl7")]
pub struct Generate {
    #[command(flatten)]
    feed: Feed,
    /// Where to write; segments end with CR, messages with one more LF
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// The file cannot be written.
pub fn run(generate: &Generate) -> Result<()> {
    let named = || format!("cannot write {}", generate.out.display());
    let messages = generate.feed.make();
    let mut file = BufWriter::new(File::create(&generate.out).with_context(named)?);
    let mut size_bytes = 0;
    for message in &messages {
        file.write_all(message).with_context(named)?;
        file.write_all(b"\n").with_context(named)?;
        size_bytes += message.len() + 1;
    }
    file.into_inner().with_context(named)?.sync_all().with_context(named)?;
    crate::out::line(&format!("{} messages, {size_bytes} bytes: {}", messages.len(), generate.out.display()));
    Ok(())
}
