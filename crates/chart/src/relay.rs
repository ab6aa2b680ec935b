//! How far the outbox is published: what the relay keeps, and what it does with it, step by step. Who runs it and where
//! it publishes is the wiring's business (`docs/adr/0019-change-feed.md`).
//!
//! - [`Relay::next`] gives what is to be published next; [`Relay::confirmed`], only when **all of it is acknowledged**,
//!   moves the cursor, in a commit that is refused when somebody else has moved it.
//! - So each entry before the cursor stands in the feed, and whoever takes over begins there: entries may come twice,
//!   none is missing, and what a reader has not seen yet comes in order.
//! - Another *life* begins where the cursor cannot be what the feed says: tables restored from a backup, or a feed that
//!   was made anew, before this one began or while it publishes. Its first entry says that all is to be read again.

use bytes::Bytes;
use hilum_core::{Clock, Entropy, Id, Seq, Timestamp};
use hilum_engines::limits::{FEED_ENTRIES, OUTBOX_KEEP_COMMITS, OUTBOX_RELAY_COMMITS_MAX};
use hilum_engines::log::{Last, Tail};
use hilum_engines::tables::{
    Batch, Change, Column, Expect, REREAD_TOPIC, Read, Row, Table, Tables, TablesError, Token, Type, Value,
    Write,
};

use crate::limits::{RELAY_LATE_S, RELAY_SAYS_S};

/// How far the outbox is published.
pub const RELAY: Table = Table {
    name: "chart_relay",
    key_len: 1,
    columns: &[
        Column::new("feed", Type::Text),
        Column::new("life", Type::Id),           // of the feed
        Column::new("sent", Type::Seq),          // what was committed up to here is acknowledged there
        Column::new("last", Type::Seq),          // the commit of the last entry there; 0 = none yet
        Column::new("moved", Type::Time),        // when it last went on, or had nothing to do
        Column::new("process", Type::Id),        // who last published
        Column::optional("trouble", Type::Text), // why it does not go on
        Column::optional("acked", Type::Int),    // the greatest offset of this life that was acknowledged
    ],
    indexes: &[],
    register: None,
};

/// There is one feed.
const FEED: &str = "chart.changes";

fn key() -> Vec<Value> {
    vec![Value::Text(FEED.to_owned())]
}

/// The row as it stands.
#[derive(Debug, Clone)]
struct Stands {
    life: Id,
    sent: Seq,
    last: Seq,
    moved: Timestamp,
    process: Id,
    trouble: Option<String>,
    acked: Option<i64>,
}

impl Stands {
    fn row(&self) -> Vec<Value> {
        let mut row = key();
        row.extend([
            Value::Id(self.life),
            Value::Seq(self.sent),
            Value::Seq(self.last),
            Value::Time(self.moved),
            Value::Id(self.process),
            self.trouble.clone().map_or(Value::Null, Value::Text),
            self.acked.map_or(Value::Null, Value::Int),
        ]);
        row
    }

    fn read(row: &Row) -> Result<Self, TablesError> {
        let [
            _,
            Value::Id(life),
            Value::Seq(sent),
            Value::Seq(last),
            Value::Time(moved),
            Value::Id(process),
            trouble,
            acked,
        ] = row.values.as_slice()
        else {
            let why = "the relay's row is of another form".to_owned();
            return Err(TablesError::Shape { table: RELAY.name.to_owned(), why });
        };
        let trouble = match trouble {
            Value::Text(why) => Some(why.clone()),
            _ => None,
        };
        let acked = match acked {
            Value::Int(offset) => Some(*offset),
            _ => None,
        };
        let (sent, last, moved) = (*sent, *last, *moved);
        Ok(Self { life: *life, sent, last, moved, process: *process, trouble, acked })
    }
}

async fn stands(tables: &Tables) -> Result<Option<(Stands, Seq)>, TablesError> {
    let rows = tables.read(&[Read::Get { table: RELAY.name, key: key() }]).await?;
    rows.iter().flatten().next().map(|row| Ok((Stands::read(row)?, row.t))).transpose()
}

/// Writes the row, if nobody has since `t`.
async fn put(tables: &Tables, stands: &Stands, t: Option<Seq>) -> Result<Seq, TablesError> {
    let expects = vec![Expect { table: RELAY.name, key: key(), t }];
    let writes = vec![Write::Put { table: RELAY.name, values: stands.row() }];
    tables.commit(Batch { expects, writes, ..Batch::default() }).await
}

/// Who publishes the outbox now. After an error of any kind it is done with: whoever goes on takes the cursor anew.
#[derive(Debug)]
pub struct Relay {
    tables: Tables,
    clock: Clock,
    term: i64,
    stands: Stands,
    /// The commit that wrote the row.
    t: Seq,
    /// Up to here there is nothing to publish any more; ahead of the row's while commits have no entries.
    passed: Seq,
    /// When the row was last written by this one.
    said: Option<Timestamp>,
    /// A life begins: readers are told before anything else.
    begins: bool,
}

impl Relay {
    /// Takes the cursor, for the process `own` that has the lease.
    ///
    /// # Errors
    /// The tables'.
    pub async fn take(
        tables: &Tables,
        clock: &Clock,
        entropy: &Entropy,
        own: Id,
        lease: Token,
    ) -> Result<Self, TablesError> {
        let (stands, t) = if let Some((before, t)) = stands(tables).await? {
            (Stands { process: own, ..before }, t)
        } else {
            let life = Id::from_bytes(entropy.bytes());
            let (sent, last, moved) = (Seq(0), Seq(0), clock.now());
            let first = Stands { life, sent, last, moved, process: own, trouble: None, acked: None };
            let t = put(tables, &first, None).await?;
            (first, t)
        };
        let passed = stands.sent;
        let (tables, clock) = (tables.clone(), clock.clone());
        Ok(Self { tables, clock, term: lease.0, stands, t, passed, said: None, begins: false })
    }

    /// Compares the cursor with what stands last in the feed, and begins another life where they do not belong together.
    ///
    /// # Errors
    /// The tables'.
    pub async fn align(&mut self, tail: &Tail, entropy: &Entropy) -> Result<(), TablesError> {
        // A topic that ends before what was acknowledged there is another one, whatever stands in it.
        let is_cut = self.stands.acked.is_some_and(|acked| tail.end <= acked);
        let belongs = !is_cut
            && match &tail.last {
                // Nothing was published yet, or the feed was made anew.
                Last::Empty => self.stands.last == Seq(0),
                // What was acknowledged last stood last: nothing is gone that these tables do not know of. With more behind
                // it, or none known, they may be those of a backup.
                Last::Aged => self.stands.acked == Some(tail.end - 1),
                Last::Foreign => false,
                Last::Entry(mark, key) => {
                    mark.life == self.stands.life
                        && self.holds(Seq(mark.t), mark.n, &mark.topic, *key).await?
                }
            };
        if belongs { Ok(()) } else { self.begin_anew(entropy).await }
    }

    /// Begins another life of the feed: what is published next says that all is to be read again.
    ///
    /// # Errors
    /// [`TablesError::Conflict`] when another process has moved the cursor; the tables'.
    pub async fn begin_anew(&mut self, entropy: &Entropy) -> Result<(), TablesError> {
        tracing::warn!(
            "the change feed and these tables do not belong together: its readers are told to begin anew"
        );
        self.stands.life = Id::from_bytes(entropy.bytes());
        self.stands.acked = None;
        self.passed = self.stands.sent;
        self.t = put(&self.tables, &self.stands, Some(self.t)).await?;
        self.begins = true;
        Ok(())
    }

    /// Whether these tables have made the entry.
    async fn holds(&self, t: Seq, n: i64, topic: &str, key: Id) -> Result<bool, TablesError> {
        if t <= self.stands.sent {
            return Ok(true);
        }
        match self.tables.changes(Seq(t.0 - 1), 1).await {
            Ok(found) => {
                let mut found = found.iter();
                Ok(found.any(|one| one.t == t && one.n == n && one.topic == topic && one.key == key))
            }
            Err(TablesError::Pruned { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The life of the feed.
    pub const fn life(&self) -> Id {
        self.stands.life
    }

    /// The greatest offset of this life that was acknowledged.
    pub const fn acked(&self) -> Option<i64> {
        self.stands.acked
    }

    /// The lease under which it publishes.
    pub const fn term(&self) -> i64 {
        self.term
    }

    /// What is to be published next, in order; nothing while there is nothing.
    ///
    /// # Errors
    /// The tables'.
    pub async fn next(&mut self) -> Result<Vec<Change>, TablesError> {
        if self.begins {
            return Ok(vec![read_again(self.stands.sent)]);
        }
        // What is committed by now is seen by what is read next.
        let now = self.tables.now().await?;
        match self.tables.changes(self.passed, FEED_ENTRIES).await {
            Ok(changes) => {
                if changes.is_empty() {
                    self.passed = self.passed.max(now);
                }
                Ok(changes)
            }
            Err(TablesError::Pruned { oldest }) => {
                tracing::error!(from = %self.passed, to = %oldest, "the outbox was cut before it was published");
                Ok(vec![read_again(Seq(oldest.0 - 1))])
            }
            Err(error) => Err(error),
        }
    }

    /// Moves the cursor behind `published`, which [`Relay::next`] gave and the feed has acknowledged, the last of it at the
    /// offset `acked`; with nothing, says from time to time that there is nothing.
    ///
    /// # Errors
    /// [`TablesError::Conflict`] when another process has moved it; the tables'.
    pub async fn confirmed(&mut self, published: &[Change], acked: Option<i64>) -> Result<(), TablesError> {
        let now = self.clock.now();
        if let Some(last) = published.last() {
            self.begins = false;
            self.passed = self.passed.max(last.t);
            self.stands.last = last.t;
            self.stands.acked = acked;
        } else if self.said.is_some_and(|said| now.micros_since(said) < RELAY_SAYS_S * 1_000_000) {
            return Ok(());
        }
        self.stands = Stands { sent: self.passed, moved: now, trouble: None, ..self.stands.clone() };
        self.t = put(&self.tables, &self.stands, Some(self.t)).await?;
        self.said = Some(now);
        Ok(())
    }
}

/// The entry that says that all is to be read again.
fn read_again(t: Seq) -> Change {
    Change {
        t,
        n: 0,
        topic: REREAD_TOPIC.to_owned(),
        key: Id::from_bytes([0; 16]),
        body: Bytes::from_static(b"{}"),
    }
}

/// Writes down why nothing is published, so that every process can say it.
///
/// # Errors
/// The tables'; [`TablesError::Conflict`] when somebody publishes meanwhile.
pub async fn complain(tables: &Tables, own: Id, why: &str) -> Result<(), TablesError> {
    let Some((before, t)) = stands(tables).await? else { return Ok(()) };
    if before.trouble.as_deref() == Some(why) {
        return Ok(());
    }
    let trouble = Some(why.to_owned());
    put(tables, &Stands { process: own, trouble, ..before }, Some(t)).await.map(drop)
}

/// How the feed does, as anybody sees it who can read the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayHealth {
    /// What was committed up to here is published.
    pub sent: Seq,
    /// Commits behind the newest; many of them have nothing to publish.
    pub lag_commits: i64,
    /// When it last went on, or had nothing to do, by the publisher's clock.
    pub moved: Timestamp,
    /// The same by the clock of who looks. Not in the row.
    pub heard: Timestamp,
    /// Who last published.
    pub process: Id,
    /// Why it does not go on, as far as somebody says so.
    pub trouble: Option<String>,
}

impl RelayHealth {
    /// Looks at `now`, having seen `before` when it last did; `None` before anybody began to publish.
    ///
    /// # Errors
    /// The tables'.
    pub async fn look(
        tables: &Tables,
        before: Option<&Self>,
        now: Timestamp,
    ) -> Result<Option<Self>, TablesError> {
        let Some((stands, _)) = stands(tables).await? else { return Ok(None) };
        let newest = tables.now().await?;
        let Stands { sent, moved, process, trouble, .. } = stands;
        let (lag_commits, heard) = ((newest.0 - sent.0).max(0), heard(moved, before, now));
        Ok(Some(Self { sent, lag_commits, moved, heard, process, trouble }))
    }

    /// Whether it stands still for so long that somebody should see to it.
    pub fn is_stuck(&self, now: Timestamp) -> bool {
        now.micros_since(self.heard) > RELAY_LATE_S * 1_000_000
    }

    /// Commits until entries are cut from the outbox that are not published.
    pub const fn left_commits(&self) -> i64 {
        let left = OUTBOX_RELAY_COMMITS_MAX - self.lag_commits;
        if left > 0 { left } else { 0 }
    }
}

/// When the feed last went on by our clock: a row that changes between two looks says so, whatever the publisher's clock
/// says. At the first look there is only its word, which cannot be later than now.
fn heard(moved: Timestamp, before: Option<&RelayHealth>, now: Timestamp) -> Timestamp {
    match before {
        Some(before) if before.moved == moved => before.heard,
        Some(_) => now,
        None => moved.min(now),
    }
}

/// Before which commit the outbox may be cut: pages that come back find [`OUTBOX_KEEP_COMMITS`], a feed that is behind
/// what it has not published, up to [`OUTBOX_RELAY_COMMITS_MAX`].
pub fn cut_before(newest: Seq, sent: Option<Seq>) -> Seq {
    let of_pages = newest.0 - OUTBOX_KEEP_COMMITS;
    let of_feed = sent.map_or(i64::MAX, |sent| sent.0 + 1);
    Seq(of_pages.min(of_feed).max(newest.0 - OUTBOX_RELAY_COMMITS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_goes_on_while_its_row_changes_whatever_its_clock_says() {
        let at = |s: i64| Timestamp::from_micros(s * 1_000_000);
        let seen = |moved: i64, before: Option<&RelayHealth>, now: i64| RelayHealth {
            sent: Seq(1),
            lag_commits: 0,
            moved: at(moved),
            heard: heard(at(moved), before, at(now)),
            process: Id::from_bytes([1; 16]),
            trouble: None,
        };
        let late = RELAY_LATE_S + 1;
        for clock in [-3_600, -late, 0, late, 3_600] {
            let first = seen(10_000 + clock, None, 10_000);
            let moved = seen(10_015 + clock, Some(&first), 10_015);
            assert!(!moved.is_stuck(at(10_015)), "its clock is {clock} s ahead, and it goes on");
            let same = seen(10_015 + clock, Some(&moved), 10_015 + late);
            assert!(same.is_stuck(at(10_015 + late)), "its clock is {clock} s ahead, and it stands still");
        }
    }

    #[test]
    fn the_outbox_is_cut_behind_the_slowest_and_at_last_all_the_same() {
        let (keep, max) = (OUTBOX_KEEP_COMMITS, OUTBOX_RELAY_COMMITS_MAX);
        let newest = 5 * max;
        let cases = [
            ("no feed: pages", None, newest - keep),
            ("a feed that keeps up: pages", Some(newest), newest - keep),
            (
                "one that is behind: what it has not published stays",
                Some(newest - 2 * keep),
                newest - 2 * keep + 1,
            ),
            ("one that stands still: the bound", Some(0), newest - max),
        ];
        for (why, sent, want) in cases {
            assert_eq!(cut_before(Seq(newest), sent.map(Seq)), Seq(want), "{why}");
        }
    }
}
