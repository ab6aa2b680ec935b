//! `hilum bench parse`: the parser and the nine fields that the census needs, on one core.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Args;
use hilum_hl7v2::{CharsetSettings, Message, Path};

/// Measures the parser.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hilum bench parse --rounds 51")]
pub struct Parse {
    /// Distinct messages, parsed in turn
    #[arg(long, default_value_t = 2_000, value_parser = super::at_least_one)]
    messages: usize,
    /// Rounds over them; the median round counts
    #[arg(long, default_value_t = 25, value_parser = super::at_least_one)]
    rounds: usize,
}

/// What a census line is made of.
const FIELDS: [&str; 9] =
    ["PID-3.1", "PID-5.1", "PID-5.2", "PID-7", "PID-8", "PV1-2", "PV1-3.1", "PV1-3.3", "PV1-7.2"];

/// Runs the command.
///
/// # Errors
/// A message of the feed does not parse: the figure would mean nothing.
pub fn run(parse: &Parse) -> Result<()> {
    let feed = super::Feed { messages: parse.messages, seed: 1 };
    let messages: Vec<Bytes> = feed.make().into_iter().map(Bytes::from).collect();
    let size_bytes: usize = messages.iter().map(Bytes::len).sum();
    let paths = FIELDS.iter().map(|path| path.parse()).collect::<Result<Vec<Path>, _>>()?;
    // As a Korean hospital runs it: the whole ladder, with a multibyte fallback.
    let charsets = CharsetSettings::new(None, Some("KS X 1001"))?;
    let mut rates = Vec::with_capacity(parse.rounds);
    let mut floor = Vec::with_capacity(parse.rounds);
    for _ in 0..parse.rounds {
        let begun = Instant::now();
        for message in &messages {
            let parsed = Message::parse(message.clone(), &charsets).context("a message of the feed")?;
            let values = paths.iter().filter_map(|path| parsed.get(*path).value()).map(black_box).count();
            if values < FIELDS.len() - 1 {
                bail!("a message of the feed has {values} of the {} fields", FIELDS.len());
            }
        }
        rates.push(messages.len() as f64 / begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        for message in &messages {
            black_box(memchr::memchr_iter(b'|', message).count());
        }
        floor.push(messages.len() as f64 / begun.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    floor.sort_by(f64::total_cmp);
    let (median, floor) = (rates[rates.len() / 2], floor[floor.len() / 2]);
    crate::out::line(&format!(
        "parse + {} fields: {median:.0} msg/s on one core ({:.2} GB/s); counting one delimiter over the same bytes: {floor:.0} msg/s; ratio {:.2}",
        FIELDS.len(),
        median * (size_bytes as f64 / messages.len() as f64) / 1e9,
        median / floor
    ));
    Ok(())
}
