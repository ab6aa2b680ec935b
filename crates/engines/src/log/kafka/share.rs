//! A process's share of the partitions, as the consumers' group deals them out.
//!
//! The group deals out, and nothing else: no record is read and no offset kept through it. Two processes may hold a
//! partition at once for a moment; the offset row in the tables lets one of them commit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hilum_core::Stream;
use rdkafka::TopicPartitionList;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use tokio::sync::watch;

use super::LogError;
use super::client::{Settings, Watched};
use super::topics::Names;
use super::trouble;
use crate::limits;
use crate::log::Share;

/// Hears what is dealt out.
pub(super) struct Member {
    names: Names,
    watched: Watched,
    share: watch::Sender<Share>,
}

impl Member {
    fn places(&self, list: &TopicPartitionList) -> Vec<(Stream, u16)> {
        let stream_of = |topic: &str| Stream::ALL.into_iter().find(|&one| self.names.topic(one) == topic);
        let elements = list.elements();
        let places = elements
            .iter()
            .filter_map(|one| Some((stream_of(one.topic())?, u16::try_from(one.partition()).ok()?)));
        places.collect()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<(Stream, u16)>)) {
        self.share.send_modify(|share| change(Arc::make_mut(share)));
    }
}

impl ClientContext for Member {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, asked: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.watched.generate_oauth_token(asked)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.watched.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watched.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let gone = self.places(list);
            tracing::info!(partitions = gone.len(), "partitions go to another process");
            self.change(|share| share.retain(|place| !gone.contains(place)));
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            // They are read elsewhere, from the offsets of the tables.
            if let Err(why) = consumer.pause(list) {
                tracing::warn!(%why, "a partition that is dealt out cannot be paused");
            }
            let come = self.places(list);
            tracing::info!(partitions = come.len(), "partitions come to this process");
            self.change(|share| share.extend(come));
        }
    }
}

/// Joins the group `name` and stays in it for as long as somebody holds what this returns.
pub(super) fn join(
    settings: &Settings,
    names: &Names,
    name: &str,
) -> Result<watch::Receiver<Share>, LogError> {
    let (share, held) = watch::channel(Share::default());
    let member = Member { names: names.clone(), watched: settings.watched.clone(), share: share.clone() };
    let consumer: BaseConsumer<Member> = settings.member(name, member)?;
    let topics: Vec<&str> = names.of_streams().collect();
    consumer.subscribe(&topics).map_err(|why| LogError::Engine(format!("group {name}: {why}")))?;
    let of_topic = format!("Describe on topic {}", names.topic(Stream::Hl7In));
    let of_group = format!("Read on group {}", settings.group_of(name));
    let mut said = None;
    let serve = move || {
        while !share.is_closed() {
            match consumer.poll(Duration::from_millis(limits::KAFKA_RETRY_MS)) {
                None => {}
                Some(Ok(_)) => {
                    tracing::debug!(
                        "a record that came before its partition was paused: it is read elsewhere"
                    );
                }
                // The others pass, or are said where what they stop fails.
                Some(Err(why)) => {
                    let denied = trouble::denied(why.rdkafka_error_code(), &of_topic, &of_group);
                    if let Some(denied) = denied.filter(|denied| Some(denied) != said.as_ref()) {
                        tracing::error!(why = denied, "no partition comes to this process");
                        said = Some(denied);
                    }
                }
            }
        }
        // Leaving by a word and not by a time-out: the others take over at once.
        consumer.unsubscribe();
    };
    std::thread::Builder::new()
        .name("log-share".to_owned())
        .spawn(serve)
        .map_err(|why| LogError::Engine(why.to_string()))?;
    Ok(held)
}
