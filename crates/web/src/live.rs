//! Live pages: one stream of events per visible page, fed by the outbox. An event carries topics, ids and `t`, no
//! content: the page fetches what it shows under its own authority.
//!
//! ```text
//! id: 4711
//! event: change
//! data: {"t":4711,"topics":{"adt.board":["0190…"]}}        ids of at most LIVE_IDS_MAX subjects
//! data: {"t":4711,"topics":{"adt.board":null}}             more than that, or ids are not for who listens: read all again
//! event: beat
//! data: {"t":4711,"at":"2026-03-12T10:42:07.000000Z","feed":{"state":"ok","text":"Feeds live"}}
//! event: end                                               the session is over
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use hilum_core::{Clock, Id, Kind, Role, Seq};
use hilum_engines::tables::{Change, REREAD_TOPIC, Tables, TablesError};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::Instant;

use crate::outcome::Fault;
use crate::params::{Parameters, Params, Takes};
use crate::shell::Shell;
use crate::visit::{Caller, Via};
use crate::{keys, limits, session};

/// A topic of the outbox that pages may listen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Its name (`adt.board`).
    pub name: &'static str,
    /// Who may.
    pub roles: &'static [Role],
    /// Who of them is told which subjects changed. Others hear that something did: where a subject's id names somebody
    /// whom they may not know, it would tell when.
    pub ids: &'static [Role],
}

/// The hub: reads the outbox once for all pages.
#[derive(Debug)]
pub struct Live {
    tables: Tables,
    topics: Vec<Topic>,
    /// What they are called.
    names: &'static [&'static str],
    told: broadcast::Sender<Arc<Told>>,
    subscribers: Arc<Semaphore>,
    /// Tells every stream to end, when the server is asked to.
    closing: tokio::sync::watch::Sender<bool>,
}

impl Live {
    /// Starts to follow the outbox of `tables` from now on.
    ///
    /// # Errors
    /// [`TablesError::Engine`].
    pub async fn start(tables: Tables, topics: Vec<Topic>) -> Result<Self, TablesError> {
        let (told, _) = broadcast::channel(limits::LIVE_BACKLOG);
        let from = tables.now().await?;
        let (closing, mut closed) = tokio::sync::watch::channel(false);
        let follow = follow(tables.clone(), from, told.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = follow => {}
                // Nobody listens any more, and the tables are closed next.
                _ = closed.wait_for(|&closed| closed) => {}
            }
        });
        let subscribers = Arc::new(Semaphore::new(limits::LIVE_SUBSCRIBERS_MAX));
        // The hub lives as long as the process.
        let names: &'static [&'static str] = Vec::leak(topics.iter().map(|topic| topic.name).collect());
        Ok(Self { tables, topics, names, told, subscribers, closing })
    }

    /// A hub that nobody asks and that follows nothing.
    pub(crate) fn idle(tables: Tables) -> Self {
        let (told, _) = broadcast::channel(1);
        let (closing, _) = tokio::sync::watch::channel(false);
        Self {
            tables,
            topics: Vec::new(),
            names: &[],
            told,
            subscribers: Arc::new(Semaphore::new(0)),
            closing,
        }
    }

    /// Ends every stream, so that the server can drain.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

/// What the hub tells all streams.
#[derive(Debug)]
enum Told {
    /// What the outbox says, in commit order.
    Changes(Vec<Change>),
    /// The outbox does not say any more what happened up to here: all is to be read again.
    Missed(Seq),
}

async fn follow(tables: Tables, mut from: Seq, out: broadcast::Sender<Arc<Told>>) {
    let mut committed = tables.committed();
    // Of other processes' commits nobody tells: looking is how they are heard of.
    let look_again = if tables.is_shared() { limits::LIVE_LOOK_EVERY } else { limits::LIVE_HINT_MAX };
    loop {
        match tables.changes(from, limits::LIVE_CHANGES_MAX).await {
            Ok(changes) => {
                if let Some(last) = changes.last() {
                    from = last.t;
                    let is_more = changes.len() >= limits::LIVE_CHANGES_MAX as usize;
                    // Without a page that listens there is nobody to tell.
                    drop(out.send(Arc::new(Told::Changes(changes))));
                    if is_more {
                        continue;
                    }
                }
            }
            Err(TablesError::Pruned { oldest }) => {
                // We were away for longer than the outbox reaches: from its beginning on it tells again.
                from = from.max(Seq(oldest.0 - 1));
                drop(out.send(Arc::new(Told::Missed(from))));
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "outbox not read for live pages");
                tokio::time::sleep(limits::LIVE_EVENT_EVERY).await;
            }
        }
        // A hint may be lost: looking again costs little. The pause bounds how often we look.
        tokio::time::sleep(limits::LIVE_EVENT_EVERY / 5).await;
        // Whole commits come, so fewer than were asked for may not be all.
        if from < *committed.borrow_and_update() && !is_empty(&tables, from).await {
            continue;
        }
        let waited = tokio::time::timeout(look_again, committed.changed()).await;
        if matches!(waited, Ok(Err(_))) {
            return; // the engine is closed
        }
    }
}

/// Whether the outbox has nothing behind `from`: commits without an entry make none.
async fn is_empty(tables: &Tables, from: Seq) -> bool {
    tables.changes(from, 1).await.is_ok_and(|changes| changes.is_empty())
}

/// What a stream still has to say.
#[derive(Debug, Default)]
struct Pending {
    t: Seq,
    /// `None` = too many, read all again.
    topics: BTreeMap<String, Option<BTreeSet<Id>>>,
}

impl Pending {
    fn add(&mut self, wanted: &[String], changes: &[Change]) {
        let seen = self.t;
        // What was caught up from the outbox may come by the hub once more.
        for change in changes.iter().filter(|change| change.t > seen) {
            if change.topic == REREAD_TOPIC {
                self.all(wanted, change.t);
            }
            if wanted.contains(&change.topic) {
                let ids = self.topics.entry(change.topic.clone()).or_insert_with(|| Some(BTreeSet::new()));
                if let Some(set) = ids {
                    set.insert(change.key);
                    if set.len() > limits::LIVE_IDS_MAX {
                        *ids = None;
                    }
                }
            }
        }
        if let Some(last) = changes.last() {
            self.t = self.t.max(last.t);
        }
    }

    /// Something was missed: all topics are to be read again.
    fn all(&mut self, wanted: &[String], t: Seq) {
        self.topics = wanted.iter().map(|topic| (topic.clone(), None)).collect();
        self.t = self.t.max(t);
    }

    /// The next event; of the topics `bare` no ids.
    fn take(&mut self, bare: &BTreeSet<&'static str>) -> Option<Event> {
        if self.topics.is_empty() {
            return None;
        }
        let mut topics = std::mem::take(&mut self.topics);
        for (topic, ids) in &mut topics {
            if bare.contains(topic.as_str()) {
                *ids = None;
            }
        }
        let data = json!({"t": self.t, "topics": topics});
        Some(Event::default().id(self.t.to_string()).event("change").data(data.to_string()))
    }
}

/// `?topics=adt.board,adt.message`.
#[derive(Debug, Deserialize)]
pub struct Asked {
    topics: Option<String>,
    /// As `Last-Event-ID`, for a page that comes back with a new connection.
    from: Option<i64>,
}

impl Parameters for Asked {
    const NAMES: &'static [&'static str] = &["topics", "from"];

    fn takes(name: &str) -> Takes {
        match name {
            "from" => Takes::Words(&["the id of an event"]),
            _ => Takes::Text,
        }
    }
}

struct Stream {
    shell: Shell,
    caller: Caller,
    via: Via,
    wanted: Vec<String>,
    /// Topics of which who listens is told no ids.
    bare: BTreeSet<&'static str>,
    told: broadcast::Receiver<Arc<Told>>,
    closing: tokio::sync::watch::Receiver<bool>,
    pending: Pending,
    /// Not before this.
    next_event: Instant,
    next_beat: Instant,
    is_over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Stream {
    /// The next event, or the end.
    async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        loop {
            let now = Instant::now();
            if now >= self.next_event && !self.pending.topics.is_empty() {
                if !self.holds().await {
                    return Some(self.end());
                }
                self.next_event = now + limits::LIVE_EVENT_EVERY;
                return self.pending.take(&self.bare);
            }
            if now >= self.next_beat {
                if !self.holds().await {
                    return Some(self.end());
                }
                self.next_beat = now + limits::LIVE_BEAT_EVERY;
                return Some(self.beat());
            }
            let wake = if self.pending.topics.is_empty() {
                self.next_beat
            } else {
                self.next_event.min(self.next_beat)
            };
            tokio::select! {
                () = tokio::time::sleep_until(wake) => {}
                _ = self.closing.changed() => return None,
                received = self.told.recv() => match received.as_deref() {
                    Ok(Told::Changes(changes)) => self.pending.add(&self.wanted, changes),
                    Ok(Told::Missed(t)) => self.pending.all(&self.wanted, *t),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.pending.all(&self.wanted, Seq(0)),
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
            }
        }
    }

    /// That the stream is there, and how the feeds are: the top bar of an open page must not grow old.
    fn beat(&self) -> Event {
        let words = self.caller.words();
        let feed = self
            .shell
            .feed_health()
            .map(|health| json!({"state": health.state.as_str(), "text": words.t(health.state.word())}));
        let data = json!({"t": self.pending.t, "at": self.shell.clock().now().to_string(), "feed": feed});
        Event::default().event("beat").data(data.to_string())
    }

    fn end(&mut self) -> Event {
        self.is_over = true;
        Event::default().event("end").data("{}")
    }

    /// Whether who listens may still: the session or key holds and has the role that it had.
    async fn holds(&self) -> bool {
        let (tables, clock): (&Tables, &Clock) = (self.shell.tables(), self.shell.clock());
        let role = match self.via {
            Via::Session(digest) => session::by_digest(tables, clock, digest, false)
                .await
                .map(|session| session.map(|session| session.account.role)),
            Via::Key(digest) => keys::role_of(tables, digest).await,
        };
        match role {
            Ok(role) => role == Some(self.caller.authority.role()),
            // The engine does not answer: nothing new can be told either; the page asks again.
            Err(_) => false,
        }
    }
}

/// Puts in what a page missed since `last`. It is told to read all again where that cannot be said: when the gap is
/// longer than one reading, or than the outbox reaches back, or when `last` is of other tables than these (a restore,
/// tables begun anew), whose commits are counted from elsewhere.
async fn resume(
    tables: &Tables,
    wanted: &[String],
    last: Seq,
    pending: &mut Pending,
) -> Result<(), TablesError> {
    let now = tables.now().await?;
    if last > now {
        pending.all(wanted, now);
        return Ok(());
    }
    let missed = match tables.changes(last, limits::LIVE_CHANGES_MAX).await {
        Ok(missed) => missed,
        Err(TablesError::Pruned { .. }) => {
            pending.all(wanted, now);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    // Whole commits come, so fewer than were asked for may not be all.
    let is_all = match missed.last() {
        Some(newest) => newest.t >= now || tables.changes(newest.t, 1).await?.is_empty(),
        None => true,
    };
    if is_all {
        pending.t = last;
        pending.add(wanted, &missed);
    } else {
        pending.all(wanted, now);
    }
    Ok(())
}

/// `GET /live?topics=…`.
pub async fn stream(
    caller: Caller,
    headers: HeaderMap,
    Params(asked): Params<Asked>,
) -> Result<Response, Fault> {
    let shell = caller.shell().clone();
    let live = shell.live();
    let asked_topics = asked.topics.unwrap_or_default();
    let wanted: Vec<String> =
        asked_topics.split(',').filter(|topic| !topic.is_empty()).map(str::to_owned).collect();
    let no_topics = Fault::parameter("topics", live.names);
    if wanted.len() > limits::LIVE_TOPICS_MAX {
        return Err(no_topics);
    }
    let mut bare = BTreeSet::new();
    let role = caller.authority.role();
    for name in &wanted {
        let known = live.topics.iter().find(|topic| topic.name == name);
        let known = known.ok_or_else(|| no_topics.clone())?;
        if !known.roles.contains(&role) {
            return Err(Fault::new(Kind::Forbidden));
        }
        if !known.ids.contains(&role) {
            bare.insert(known.name);
        }
    }
    let Some(via) = caller.signed_in().map(|who| who.via) else {
        return Err(Fault::new(Kind::Unauthenticated));
    };
    let permit = Arc::clone(&live.subscribers)
        .try_acquire_owned()
        .map_err(|_| Fault::new(Kind::Transient).retry_after(30))?;
    // Subscribed before the outbox is read, so that nothing falls between.
    let told = live.told.subscribe();
    let mut pending = Pending::default();
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(last) = last.or(asked.from).map(Seq) {
        resume(&live.tables, &wanted, last, &mut pending).await?;
    } else {
        pending.t = live.tables.now().await?;
    }
    let now = Instant::now();
    let stream = Stream {
        closing: live.closing.subscribe(),
        shell: shell.clone(),
        caller,
        via,
        wanted,
        bare,
        told,
        pending,
        next_event: now,
        next_beat: now,
        is_over: false,
        _permit: permit,
    };
    let events = futures::stream::unfold(stream, async |mut stream| {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    let mut response = Sse::new(events).into_response();
    // A proxy that buffers would hold events back.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hilum_engines::tables::sqlite::{Options, Place, Sqlite};

    use super::*;

    /// Else it would read tables that are closed, and warn of the good end of a server.
    #[tokio::test]
    async fn the_hub_ends_when_the_server_does() {
        let tables = Tables::Sqlite(Sqlite::open(Place::Memory, &[], Options::default()).unwrap());
        let live = Live::start(tables, Vec::new()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(live.closing.receiver_count(), 1, "it hears");
        live.close();
        let ended = async {
            while live.closing.receiver_count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), ended).await.expect("it ends");
    }
}
