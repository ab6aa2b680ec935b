//! A process's share of the partitions, as the consumers' group deals them out.
//!
//! The group deals out, and nothing else: no record is read and no offset kept through it. Two processes may hold a
//! partition at once for a moment; the offset row in the tables lets one of them commit.
//!
//! Messages alone are dealt out. Decisions are few, and dealt out beside them their idle partitions would count as work:
//! they go with the first partition of messages.

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
use super::listing::Listing;
use super::trouble;
use crate::limits;
use crate::log::Share;

/// Hears what is dealt out.
pub(super) struct Member {
    listing: Arc<Listing>,
    watched: Watched,
    share: watch::Sender<Share>,
}

impl Member {
    fn places(&self, list: &TopicPartitionList) -> Vec<(Stream, u16)> {
        let elements = list.elements();
        let places = elements.iter().filter_map(|one| self.listing.place(one.topic(), one.partition()));
        places.collect()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<(Stream, u16)>)) {
        self.share.send_modify(|share| {
            let share = Arc::make_mut(share);
            change(share);
            share.retain(|(stream, _)| *stream != Stream::Decisions);
            if share.contains(&(Stream::Hl7In, 0)) {
                let decisions = 0..self.listing.partitions(Stream::Decisions);
                share.extend(decisions.map(|partition| (Stream::Decisions, partition)));
            }
        });
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
    listing: &Arc<Listing>,
    name: &str,
) -> Result<watch::Receiver<Share>, LogError> {
    let (share, held) = watch::channel(Share::default());
    let mut grown = listing.grown();
    let member =
        Member { listing: Arc::clone(listing), watched: settings.watched.clone(), share: share.clone() };
    let consumer: BaseConsumer<Member> = settings.member(name, member)?;
    let subscribe = |consumer: &BaseConsumer<Member>, listing: &Listing| {
        let topics = listing.messages();
        consumer.subscribe(&topics.iter().map(|topic| &**topic).collect::<Vec<_>>())
    };
    grown.mark_unchanged();
    subscribe(&consumer, listing).map_err(|why| LogError::Engine(format!("group {name}: {why}")))?;
    let of_topic = listing.spot(Stream::Hl7In, 0).map(|spot| format!("Describe on topic {}", spot.topic));
    let of_topic = of_topic.unwrap_or_default();
    let of_group = format!("Read on group {}", settings.group_of(name));
    let listing = Arc::clone(listing);
    let mut said = None;
    let serve = move || {
        while !share.is_closed() {
            // A source has a topic of its own now. Who does not know it yet gets nothing of it.
            if grown.has_changed().unwrap_or_default() {
                grown.mark_unchanged();
                if let Err(why) = subscribe(&consumer, &listing) {
                    tracing::error!(%why, "no partition of a new topic comes to this process");
                }
            }
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
