//! What an open log looks for on its own: topics that come and go, and brokers that answer again.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::producer::Producer as _;

use super::{Inner, LogError, blocking, cluster, list, lock};
use crate::limits;

impl Inner {
    /// Sees topics that another process adds, and those that somebody takes away, for as long as the log is open.
    pub(super) async fn watch_topics(weak: Weak<Self>) {
        let mut was_lost = false;
        loop {
            tokio::time::sleep(Duration::from_millis(limits::KAFKA_LIST_MS)).await;
            let open = weak.upgrade().filter(|inner| !inner.closed.load(Ordering::Acquire));
            let Some(inner) = open else { return };
            let asked = Arc::clone(&inner);
            let looked = match blocking(move || asked.look()).await {
                Ok(true) => inner.read_list().await,
                other => other.map(drop),
            };
            if let Err(why) = looked {
                // Whoever reads or appends says more.
                tracing::debug!(%why, "which topics there are cannot be seen");
            }
            let lost = inner.listing.list_lost();
            if let Some(why) = lost.as_ref().filter(|_| !was_lost) {
                let records = list::lines(&inner.names, inner.epoch, inner.made, &inner.listing.of_sources())
                    .join("\n");
                tracing::error!(why, records, "what runs goes on, and what stood in the list is known here");
            }
            was_lost = lost.is_some();
        }
    }

    /// Looks whether all topics are there, and whether the list has grown.
    fn look(&self) -> Result<bool, LogError> {
        let client = self.producer.client();
        self.listing.look(client)?;
        if self.listing.is_list_absent() {
            return Ok(false);
        }
        let wait = Duration::from_secs(limits::ENGINE_CONNECT_S_MAX);
        let marks = client.fetch_watermarks(&self.names.identity, 0, wait);
        let (begin, end) = marks.map_err(|why| LogError::Engine(why.to_string()))?;
        let known = self.list_end.load(Ordering::Acquire);
        self.listing.look_at_list(begin, end, known);
        Ok(end > known)
    }

    /// Takes in the topics that others have added.
    pub(super) async fn read_list(&self) -> Result<(), LogError> {
        let list = list::read(&self.settings, &self.names).await?;
        self.listing.grow(&list.topics);
        self.list_end.fetch_max(list.end, Ordering::AcqRel);
        Ok(())
    }

    /// Accepts nothing until the brokers answer again, and looks whether they do.
    pub(super) fn turn_down(self: &Arc<Self>, why: String) {
        {
            let mut down = lock(&self.down);
            if down.is_some() {
                return;
            }
            tracing::error!(why, "the log does not accept");
            *down = Some(why);
        }
        let inner = Arc::clone(self);
        self.runtime.spawn(async move {
            while !inner.closed.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(limits::KAFKA_RETRY_MS)).await;
                let asked = Arc::clone(&inner);
                let answer = blocking(move || {
                    let wait = Duration::from_secs(limits::ENGINE_CONNECT_S_MAX);
                    cluster::all_lead(asked.producer.client(), &asked.listing, asked.in_sync, wait)
                });
                match answer.await {
                    Ok(()) => break,
                    Err(why) => {
                        let said = inner.watched.last_said().map(|said| format!(": {said}"));
                        *lock(&inner.down) = Some(format!("{why}{}", said.unwrap_or_default()));
                    }
                }
            }
            inner.watched.forget();
            *lock(&inner.down) = None;
            tracing::info!("the log accepts again");
        });
    }
}
