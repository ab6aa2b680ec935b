//! The settings of sources on their way into the log: envelopes name them by digest, so they are written down before
//! the first envelope is. The log alone is asked: a door opens without the tables; their row is the fold's, from the
//! decision.

use std::collections::BTreeMap;

use bytes::Bytes;
use hilum_core::{Clock, ContentType, Digest, Entropy, Envelope, InstallationKey, SourceName, Stream};
use hilum_engines::log::{Log, LogError, ReadMax};

use crate::decision::Decision;
use crate::limits;
use crate::settings::SourceSettings;
use crate::sources::Sources;

/// All settings that the log has ever named, by digest. Read at the start, so that a fold whose tables are new knows
/// them before it reads the first message.
///
/// # Errors
/// The log's.
pub async fn known(log: &Log) -> Result<BTreeMap<Digest, SourceSettings>, LogError> {
    let mut known = BTreeMap::new();
    for partition in 0..log.partitions() {
        let mut from = 0;
        loop {
            let max =
                ReadMax { records: limits::DECISIONS_READ_RECORDS, bytes: limits::DECISIONS_READ_BYTES };
            let records = match log.read(Stream::Decisions, partition, from, max).await {
                Err(LogError::Corrupt { position, why }) => {
                    // The fold quarantines it; settings that it held are announced anew with the next start.
                    tracing::error!(%position, why, "decision cannot be read");
                    from = position.offset + 1;
                    continue;
                }
                Err(why @ LogError::Missing { to, .. }) => {
                    tracing::error!(%why, "decisions are missing");
                    from = to;
                    continue;
                }
                // The fold says so, and doctor; what stands before it is known.
                Err(LogError::Unsure { .. }) => break,
                read => read?,
            };
            let Some(last) = records.last() else { break };
            from = last.position.offset + 1;
            for record in &records {
                if let Ok(Decision::Settings { settings, .. }) = Decision::parse(&record.envelope.body) {
                    known.insert(record.envelope.settings_sha, *settings);
                }
            }
        }
    }
    Ok(known)
}

/// Writes down the settings of `sources` that are not among `known`; returns how many there were. To be called
/// before a door opens.
///
/// # Errors
/// The log's: then no door may open.
pub async fn announce(
    sources: &Sources,
    known: &BTreeMap<Digest, SourceSettings>,
    log: &Log,
    clock: &Clock,
    entropy: &Entropy,
    key: &InstallationKey,
) -> Result<usize, LogError> {
    let mut announced = 0;
    for source in sources.all() {
        let (settings, sha) = (source.settings(), source.settings_sha());
        if !known.contains_key(&sha) {
            let decision = Decision::Settings {
                source: source.name().to_string(),
                settings: Box::new(settings.clone()),
            };
            log.append(envelope(&decision, source.name(), sha, clock, entropy, key)).await?;
            announced += 1;
        }
    }
    Ok(announced)
}

/// The envelope of a decision, in the stream that a rebuild reads first.
pub fn envelope(
    decision: &Decision,
    source: &SourceName,
    settings_sha: Digest,
    clock: &Clock,
    entropy: &Entropy,
    key: &InstallationKey,
) -> Envelope {
    let body = Bytes::from(decision.to_bytes());
    let received = clock.now();
    Envelope {
        v: Envelope::VERSION,
        id: entropy.record_id(received),
        stream: Stream::Decisions,
        source: source.clone(),
        settings_sha,
        received,
        peer: None,
        digest: Digest::of(&body),
        key: key.id("Partition", &[b"decision", source.as_str().as_bytes()]),
        content_type: ContentType::Decision,
        charset_rule: None,
        replaces: None,
        cipher_key: None,
        trace: None,
        body,
    }
}
