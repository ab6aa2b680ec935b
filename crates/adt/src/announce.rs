//! The settings of sources on their way into the log: envelopes name them by digest, so they are written down before
//! the first envelope is. The log alone is asked: a door opens without the tables; their row is the fold's, from the
//! decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hilum_core::{Clock, ContentType, Digest, Entropy, Envelope, InstallationKey, SourceName, Stream};
use hilum_engines::log::{Log, LogError, ReadMax};
use hilum_engines::tables::{Read, Tables, TablesError, Value};

use crate::decision::Decision;
use crate::limits;
use crate::settings::SourceSettings;
use crate::sources::{Source, Sources};
use crate::tables::SETTINGS;

/// All settings that the log has ever named, by digest. Read at the start, so that a fold whose tables are new knows
/// them before it reads the first message.
///
/// # Errors
/// The log's.
pub async fn known(log: &Log) -> Result<BTreeMap<Digest, SourceSettings>, LogError> {
    let mut known = BTreeMap::new();
    for partition in 0..log.partitions(Stream::Decisions) {
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

/// What became of the settings that the log did not name yet.
#[derive(Debug, Default)]
pub struct Announced {
    /// How many were written down.
    pub written: usize,
    /// Sources whose settings have no place just now: the end of their partition is damaged and not known.
    pub placeless: Vec<(Arc<Source>, LogError)>,
}

/// Writes down the settings of `sources` that are not among `known`. To be called before a door opens.
///
/// # Errors
/// The log's, but [`LogError::Unsure`]: then no door may open.
pub async fn announce(
    sources: &Sources,
    known: &BTreeMap<Digest, SourceSettings>,
    log: &Log,
    clock: &Clock,
    entropy: &Entropy,
    key: &InstallationKey,
) -> Result<Announced, LogError> {
    let mut announced = Announced::default();
    for source in sources.all() {
        let (settings, sha) = (source.settings(), source.settings_sha());
        if !known.contains_key(&sha) {
            let decision = Decision::Settings {
                source: source.name().to_string(),
                settings: Box::new(settings.clone()),
            };
            match log.append(envelope(&decision, source.name(), sha, clock, entropy, key)).await {
                Ok(_) => announced.written += 1,
                Err(why @ LogError::Unsure { .. }) => announced.placeless.push((Arc::clone(source), why)),
                Err(why) => return Err(why),
            }
        }
    }
    Ok(announced)
}

/// Shuts the `placeless` sources, but those whose settings the tables have from the decision that cannot be read:
/// what these send is read by them as ever, and they are announced anew when the partition goes on.
///
/// # Errors
/// The tables'.
pub async fn shut_unknown(
    placeless: Vec<(Arc<Source>, LogError)>,
    tables: &Tables,
) -> Result<(), TablesError> {
    for (source, why) in placeless {
        let name = source.name();
        let sha = Value::Bytes(Bytes::copy_from_slice(source.settings_sha().as_bytes()));
        let found = tables.read(&[Read::Get { table: SETTINGS.name, key: vec![sha] }]).await?;
        if found.first().is_some_and(|rows| !rows.is_empty()) {
            tracing::warn!(source = %name, %why, "its settings are in the tables alone");
        } else {
            tracing::error!(source = %name, %why, "the source takes nothing: its settings cannot be written down");
            source.shut(format!("the settings of source {name} cannot be written down: {why}"));
        }
    }
    Ok(())
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
