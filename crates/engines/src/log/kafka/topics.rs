//! The topics of a log: found, made when there are none, and held to what we promise (`promise`).
//!
//! `{prefix}.hl7.in` and `{prefix}.decisions` hold the streams, `{prefix}.hl7.in.{source}` what comes from a source that
//! has a topic of its own. `{prefix}.log` says which life of the log this is, and which topics of sources it has: see
//! `list`. `{prefix}.chart.changes` is no part of the log: see `feed`.

use std::time::Duration;

use hilum_core::{Clock, Entropy, Epoch, Timestamp};
use tokio::time::Instant;

use super::client::Settings;
use super::cluster::{Cluster, Present};
use super::list::{self, List};
use super::listing::{self, Listing};
use super::names::Names;
use super::promise::Holds;
use super::{Durability, KafkaConfig, LogError, blocking};
use crate::limits;

/// How topics are made, and what they must promise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making {
    pub(super) copies: Option<u16>,
    pub(super) durability: Durability,
    /// Milliseconds for which records stay; -1: for ever.
    pub(super) kept_ms: i64,
}

impl Making {
    /// As the topics of the log are made.
    pub(super) const fn of_log(config: &KafkaConfig) -> Self {
        Self { copies: config.copies, durability: config.durability, kept_ms: -1 }
    }
}

/// A log that is there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) listing: Listing,
    /// How far `{prefix}.log` is read.
    pub(super) list_end: i64,
    pub(super) epoch: Epoch,
    pub(super) made: Timestamp,
    /// As [`super::LogHealth`] shows it.
    pub(super) durability: &'static str,
    /// Brokers that must have a record before it is acknowledged.
    pub(super) in_sync: usize,
}

/// Finds the topics, makes them when there are none, and checks what they promise.
pub(super) async fn open(
    settings: &Settings,
    names: &Names,
    config: &KafkaConfig,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Found, LogError> {
    let (cluster, mut there) = Cluster::of(settings).await?;
    let mut list = listed(settings, names, &there).await?;
    if list.identity.is_none()
        && let Some(topic) = with_records(settings, names, &there).await?
    {
        (there, list) = begun(&cluster, settings, names, &topic).await?;
    }
    let missing: Vec<&str> = names.of_streams().filter(|topic| there.partitions(topic).is_none()).collect();
    if let Some(identity) = &list.identity
        && let Some(gone) = missing.iter().find(|gone| identity.topics.iter().any(|topic| topic == *gone))
    {
        return Err(LogError::Engine(format!(
            "topic {gone} is gone, though {} says that this log was made with it: restore it, or give a new log \
             another prefix",
            names.identity
        )));
    }
    if list.identity.is_none() {
        let mut wanted: Vec<_> = missing.into_iter().map(|topic| (topic, config.partitions)).collect();
        if there.partitions(&names.identity).is_none() {
            wanted.push((&names.identity, 1));
        }
        if !wanted.is_empty() {
            cluster.create(names, &wanted, Making::of_log(config), there.brokers).await?;
        }
        // Those too that another process makes this moment: they may have no leader yet.
        let all = names.of_streams().chain([names.identity.as_str()]);
        let all: Vec<_> = all.map(|topic| (topic, config.partitions)).collect();
        there = cluster.wait_for(&all).await?;
    }
    let each = partitions(names, &there)?;
    if list.identity.is_none() {
        // Before anything is written: what promises too little is no log.
        cluster.promise(names, config.durability, &names.of_streams().collect::<Vec<_>>()).await?;
        list = list::make_identity(settings, names, config.owner, clock, entropy).await?;
    }
    let owner = list.identity.as_ref().and_then(|identity| identity.owner);
    if owner.is_some() && config.owner.is_some() && owner != config.owner {
        return Err(LogError::Engine(format!(
            "the topics {}.* are another installation's: every process of one installation has the same installation \
             key (secrets/), another installation takes another prefix",
            config.prefix
        )));
    }
    there = listed_topics(&cluster, names, &list, there, each).await?;
    for source in &config.own_topics {
        let topic = names.of_source(source);
        if !list.topics.contains(&topic) {
            (list, there) = add(&cluster, settings, names, config, there, (&topic, each)).await?;
        }
    }
    for topic in &list.topics {
        let has = there.partitions(topic).unwrap_or_default();
        if has != usize::from(each) {
            return Err(LogError::Engine(format!(
                "topic {topic} has {has} partitions (0: one of them has no leader): it must have {each}, as all of this \
                 log, and it never changes"
            )));
        }
    }
    let listing = Listing::new(names, each, &list.topics);
    let all = listing.all();
    let all: Vec<&str> = all.iter().map(|one| &**one).collect();
    let (durability, in_sync) = cluster.promise(names, config.durability, &all).await?;
    let List { identity: Some(list::Identity { epoch, made, .. }), end: list_end, .. } = list else {
        return Err(LogError::Engine(format!("topic {} says nothing", names.identity)));
    };
    Ok(Found { listing, list_end, epoch, made, durability, in_sync })
}

/// What `{prefix}.log` says, if it is there.
async fn listed(settings: &Settings, names: &Names, there: &Present) -> Result<List, LogError> {
    match there.partitions(&names.identity) {
        Some(_) => list::read(settings, names).await,
        None => Ok(List::default()),
    }
}

/// A topic of ours in which something stands, or has stood.
async fn with_records(
    settings: &Settings,
    names: &Names,
    there: &Present,
) -> Result<Option<String>, LogError> {
    let ours = there.topics().filter(|(topic, _)| names.holds(topic) == Some(Holds::Messages));
    let ours: Vec<_> = ours.map(|(topic, partitions)| (topic.to_owned(), partitions)).collect();
    let (consumer, names) = (settings.end_reader()?, names.clone());
    blocking(move || {
        for (topic, partitions) in ours {
            for partition in (0..).take(partitions) {
                let (_, end) = list::marks(&consumer, &names, (&topic, partition), "Describe")?;
                if end > 0 {
                    return Ok(Some(topic));
                }
            }
        }
        Ok(None)
    })
    .await
}

/// The list of a log in which something stands. Another process may have begun it this moment, and said so before it
/// wrote: a broker may not have heard of that yet. Else it is lost, and a new one would be another log with the same
/// records, whose topics may have other numbers.
async fn begun(
    cluster: &Cluster<'_>,
    settings: &Settings,
    names: &Names,
    topic: &str,
) -> Result<(Present, List), LogError> {
    let until = Instant::now() + Duration::from_secs(limits::ENGINE_CONNECT_S_MAX);
    loop {
        let there = cluster.look().await?;
        let list = listed(settings, names, &there).await?;
        if list.identity.is_some() {
            return Ok((there, list));
        }
        if Instant::now() > until {
            let how = match there.partitions(&names.identity) {
                None => "is not there, or this user has not the right Describe on it",
                Some(_) => "is empty",
            };
            return Err(listing::list_lost(names, &format!("{how}, though records stand in {topic}")));
        }
        tokio::time::sleep(Duration::from_millis(limits::KAFKA_RETRY_MS)).await;
    }
}

/// The topics that the list names. Another process may have added one since the cluster was looked at, or told another
/// broker: what is not there at once is looked for again before it is said to be gone.
async fn listed_topics(
    cluster: &Cluster<'_>,
    names: &Names,
    list: &List,
    mut there: Present,
    each: u16,
) -> Result<Present, LogError> {
    let until = Instant::now() + Duration::from_secs(limits::ENGINE_CONNECT_S_MAX);
    loop {
        let Some(absent) = list.topics.iter().find(|topic| there.partitions(topic).is_none()) else {
            return Ok(there);
        };
        if Instant::now() > until {
            return Err(listing::gone(names, absent, each));
        }
        tokio::time::sleep(Duration::from_millis(limits::KAFKA_RETRY_MS)).await;
        there = cluster.look().await?;
    }
}

/// How many partitions each topic has.
fn partitions(names: &Names, there: &Present) -> Result<u16, LogError> {
    let mut each = None;
    for topic in names.of_streams() {
        let has = there.partitions(topic).unwrap_or_default();
        if has > usize::from(limits::LOG_PARTITIONS_MAX) {
            return Err(LogError::Engine(format!(
                "topic {topic} has {has} partitions: a topic of a log has at most {}",
                limits::LOG_PARTITIONS_MAX
            )));
        }
        if has == 0 || each.is_some_and(|other| other != has) {
            return Err(LogError::Engine(format!(
                "topic {topic} has {has} partitions: all streams of a log have the same number, and it never changes"
            )));
        }
        each = Some(has);
    }
    Ok(each.and_then(|each| u16::try_from(each).ok()).unwrap_or_default())
}

/// Makes the topic of a source, unless somebody has, and gives it its number. It is there, and keeps what is promised,
/// before it is listed: whoever finds it in the list may use it.
async fn add(
    cluster: &Cluster<'_>,
    settings: &Settings,
    names: &Names,
    config: &KafkaConfig,
    mut there: Present,
    wanted: (&str, u16),
) -> Result<(List, Present), LogError> {
    let (topic, each) = wanted;
    if there.partitions(topic).is_none() {
        cluster.create(names, &[wanted], Making::of_log(config), there.brokers).await?;
        there = cluster.wait_for(&[wanted]).await?;
    }
    let has = there.partitions(topic).unwrap_or_default();
    if has != usize::from(each) {
        return Err(LogError::Engine(format!(
            "topic {topic} has {has} partitions (0: one of them has no leader): it must have {each}, as all of this log"
        )));
    }
    cluster.promise(names, config.durability, &[topic]).await?;
    let list = list::enlist(settings, names, topic).await?;
    tracing::info!(topic, "a source has a topic of its own");
    // Others may have added theirs meanwhile.
    let wanted: Vec<_> = list.topics.iter().map(|topic| (topic.as_str(), each)).collect();
    let there = cluster.wait_for(&wanted).await?;
    Ok((list, there))
}
