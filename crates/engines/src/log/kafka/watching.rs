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
        loop {
            tokio::time::sleep(Duration::from_millis(limits::KAFKA_LIST_MS)).await;
            let open = weak.upgrade().filter(|inner| !inner.closed.load(Ordering::Acquire));
            let Some(inner) = open else { return };
            let asked = Arc::clone(&inner);
            let looked = blocking(move || {
                let client = asked.producer.client();
                let wait = Duration::from_secs(limits::ENGINE_CONNECT_S_MAX);
                let ends = client.fetch_watermarks(&asked.names.identity, 0, wait);
                let (_, end) = ends.map_err(|why| LogError::Engine(why.to_string()))?;
                asked.listing.look(client)?;
                Ok(end > asked.list_end.load(Ordering::Acquire))
            });
            let looked = match looked.await {
                Ok(true) => inner.read_list().await,
                other => other.map(drop),
            };
            if let Err(why) = looked {
                // Whoever reads or appends says more.
                tracing::debug!(%why, "which topics there are cannot be seen");
            }
        }
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
