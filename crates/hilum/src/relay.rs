//! Publishes the outbox as the change feed, and cuts it behind what is published. Of several processes one does either.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hilum_chart::relay::{self, Relay, RelayHealth};
use hilum_core::Timestamp;
use hilum_engines::limits as engines;
use hilum_engines::log::{Feed, LogError, Placed};
use hilum_engines::tables::{TablesError, Token};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::house::House;
use crate::limits::{RELAY_LEASE_S, RELAY_LOOK_EVERY, RELAY_RETRY_EVERY};

/// The lease of whoever publishes.
const LEASE: &str = "relay";
/// The lease of whoever cuts.
const CUT_LEASE: &str = "outbox.prune";
/// What to do about a feed that stands still.
pub const WAY_OUT: &str = "see that a worker runs, that Kafka answers, and that the workers' user may write into the topic \
                           (docs/OPERATIONS.md, who may do what): it goes on by itself then. Not wanted any more: log.relay = false";

/// Why a turn at publishing ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Feed(#[from] LogError),
    #[error("{0}")]
    Tables(#[from] TablesError),
    #[error("the lease is another's")]
    LeaseLost,
}

/// Publishes until `stop` is true. Whoever is `refused` has no lease to give back: it stands for the other process of its id.
pub async fn keep(
    house: Arc<House>,
    mut stop: watch::Receiver<bool>,
    refused: watch::Receiver<Option<String>>,
) {
    let mut said = String::new();
    let publishing = async {
        loop {
            match take_lease(&house).await {
                Ok(Some(lease)) => {
                    let mut turn = Turn::default();
                    let why = turn.take(&house, lease).await;
                    if turn.went_on {
                        said.clear();
                    }
                    trouble(&house, &why, &mut said).await;
                    // Another one may have more luck.
                    give_lease_back(&house).await;
                }
                Ok(None) => {}
                Err(why) => tracing::debug!(%why, "who publishes the outbox is not known"),
            }
            tokio::time::sleep(RELAY_RETRY_EVERY).await;
        }
    };
    tokio::select! {
        () = publishing => {}
        _ = stop.wait_for(|&stop| stop) => {}
    }
    if refused.borrow().is_some() {
        return;
    }
    // Tables that do not answer are not waited for: the lease runs out.
    tokio::time::timeout(RELAY_RETRY_EVERY, give_lease_back(&house)).await.ok();
}

fn lease_until(now: Timestamp) -> Timestamp {
    now.plus_micros(RELAY_LEASE_S * 1_000_000)
}

async fn take_lease(house: &House) -> Result<Option<Token>, TablesError> {
    let (holder, now) = (house.process.to_string(), house.clock.now());
    house.tables.lease(LEASE, &holder, now, lease_until(now)).await
}

/// Lets the next one have it at once.
async fn give_lease_back(house: &House) {
    let (holder, now) = (house.process.to_string(), house.clock.now());
    if let Err(why) = house.tables.lease(LEASE, &holder, now, now).await {
        tracing::debug!(%why, "the lease of the change feed runs out by itself");
    }
}

/// Says once what keeps the feed, here and in the tables.
async fn trouble(house: &House, why: &Ended, said: &mut String) {
    let text = why.to_string();
    if matches!(why, Ended::LeaseLost | Ended::Tables(TablesError::Conflict(_))) {
        tracing::info!(why = text, "another process publishes the outbox");
        return;
    }
    if *said != text {
        tracing::warn!(why = text, way_out = WAY_OUT, "the change feed stands still");
    }
    if matches!(why, Ended::Feed(_))
        && let Err(error) = relay::complain(&house.tables, house.process, &text).await
    {
        tracing::debug!(%error, "why the change feed stands still is not written down");
    }
    *said = text;
}

/// From taking the lease to losing it, or to what does not work.
#[derive(Default)]
struct Turn {
    feed: Option<Feed>,
    /// Whether anything was acknowledged, or found to be nothing.
    went_on: bool,
}

impl Drop for Turn {
    /// Who was told to stop has left the feed open: a producer's end takes a thread that may wait, and nobody waits for it.
    fn drop(&mut self) {
        if let (Some(feed), Ok(runtime)) = (self.feed.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(feed));
        }
    }
}

impl Turn {
    /// Publishes while the lease is ours.
    async fn take(&mut self, house: &House, lease: Token) -> Ended {
        let ended = tokio::select! {
            ended = self.publish(house, lease) => ended,
            ended = hold(house, lease) => ended,
        };
        if let Some(feed) = self.feed.take() {
            feed.close().await;
        }
        match ended {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn publish(&mut self, house: &House, lease: Token) -> Result<Infallible, Ended> {
        let mut relay =
            Relay::take(&house.tables, &house.clock, &house.entropy, house.process, lease).await?;
        let feed = self.feed.insert(house.log.feed().await?);
        relay.align(&feed.tail().await?, &house.entropy).await?;
        tracing::info!(term = relay.term(), "this process publishes the outbox");
        let mut committed = house.tables.committed();
        loop {
            committed.mark_unchanged();
            let changes = relay.next().await?;
            let placed = feed.publish(relay.life(), relay.term(), relay.acked(), &changes).await?;
            let Placed::Behind(acked) = placed else {
                relay.begin_anew(&house.entropy).await?;
                continue;
            };
            if !changes.is_empty() {
                hilum_core::failpoint::hit("relay");
            }
            relay.confirmed(&changes, acked).await?;
            self.went_on = true;
            metrics::counter!("hilum_relay_published_total").increment(changes.len() as u64);
            if changes.len() < engines::FEED_ENTRIES as usize {
                // A little rest bounds how often the cursor is moved; of others' commits nobody tells.
                tokio::time::sleep(RELAY_LOOK_EVERY / 2).await;
                tokio::time::timeout(RELAY_LOOK_EVERY / 2, committed.changed()).await.ok();
            }
        }
    }
}

/// Renews the lease until that fails.
async fn hold(house: &House, lease: Token) -> Result<Infallible, Ended> {
    // Three tries before it runs out.
    let every = Duration::from_secs(RELAY_LEASE_S.unsigned_abs()) / 4;
    loop {
        tokio::time::sleep(every).await;
        if take_lease(house).await? != Some(lease) {
            return Err(Ended::LeaseLost);
        }
    }
}

/// Keeps the outbox as long as a page may be away and the feed needs it, and no longer.
pub async fn cut_outbox(house: Arc<House>, mut stopped: watch::Receiver<bool>) {
    let every = Duration::from_secs(engines::OUTBOX_PRUNE_EVERY_S);
    while tokio::time::timeout(every, stopped.wait_for(|&stop| stop)).await.is_err() {
        match cut_once(&house).await {
            Ok(0) => {}
            Ok(entries) => tracing::debug!(entries, "outbox pruned"),
            Err(error) => tracing::warn!(%error, "outbox not pruned; it is tried again"),
        }
    }
}

async fn cut_once(house: &House) -> Result<u64, TablesError> {
    let (tables, holder, now) = (&house.tables, house.process.to_string(), house.clock.now());
    // Longer than until the next look, so that it stays with who has it; whoever dies loses it soon.
    let until = now.plus_micros(2 * engines::OUTBOX_PRUNE_EVERY_S as i64 * 1_000_000);
    if tables.lease(CUT_LEASE, &holder, now, until).await?.is_none() {
        return Ok(0);
    }
    let sent = if house.config.log.relay {
        RelayHealth::look(tables, None, now).await?.map(|feed| feed.sent)
    } else {
        None
    };
    tables.prune(relay::cut_before(tables.now().await?, sent)).await
}

/// What to say of a feed that stands still; `None` while it goes on.
pub fn note(feed: &RelayHealth, now: Timestamp) -> Option<String> {
    if !feed.is_stuck(now) && feed.trouble.is_none() {
        return None;
    }
    let why = feed.trouble.as_deref().unwrap_or("no worker publishes");
    Some(format!(
        "the change feed stands still since {}, {} commits behind ({} more and entries are cut that it has not \
         published): {why}",
        feed.moved,
        feed.lag_commits,
        feed.left_commits()
    ))
}
