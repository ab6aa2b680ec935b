//! Tables that went back: restored from a backup, or a fail-over to a server that lacks the last commits.
//!
//! `t` never goes back. Whoever finds the counter behind a commit that was seen sets it behind that one, and shuts the
//! outbox before it: readers of changes are told to read all anew, the change feed begins another life, and no `t` ever
//! names two commits. Leases go on with tokens that were never given. What came in since is applied again from the
//! log, since offsets went back with the rows.

use std::sync::atomic::{AtomicI64, Ordering};

use hilum_core::Seq;
use tokio::sync::watch;
use tokio_postgres::{Client, Row};

use super::plan::quote;
use super::{engine, heard};
use crate::tables::{TablesError, WentBack};

/// What this process knows of its tables' past.
pub(super) struct Behind {
    schema: String,
    /// The newest commit that was seen.
    pub(super) committed: watch::Sender<Seq>,
    /// That they went back while this process had them open.
    pub(super) said: watch::Sender<Option<WentBack>>,
    /// From where they went back the last time that is known; -1 before they were asked.
    known: AtomicI64,
}

impl Behind {
    pub(super) fn new(schema: &str, seen: Seq) -> Self {
        Self {
            schema: schema.to_owned(),
            committed: watch::Sender::new(seen),
            said: watch::Sender::new(None),
            known: AtomicI64::new(-1),
        }
    }

    /// The statement whose answer [`Behind::take`] takes.
    pub(super) fn question(&self) -> String {
        let s = quote(&self.schema);
        format!("SELECT c.t, w.back_from, w.back_to FROM {s}.hilum_counter AS c, {s}.hilum_window AS w")
    }

    /// What the tables say: the newest commit, or nothing where it is older than what was seen. Another process may have
    /// found it first: then this one hears of it here.
    pub(super) fn take(&self, row: &Row, seen: Seq) -> Result<Option<Seq>, TablesError> {
        let number = |at: usize| row.try_get::<_, i64>(at).map_err(|e| engine("counter", &e));
        let (t, from, to) = (Seq(number(0)?), number(1)?, Seq(number(2)?));
        if t < seen {
            return Ok(None);
        }
        let known = self.known.swap(from, Ordering::AcqRel);
        if known >= 0 && known < from {
            self.say(WentBack { from: Seq(from), to });
        }
        heard(&self.committed, t);
        Ok(Some(t))
    }

    fn say(&self, back: WentBack) {
        let (from, to) = (back.from, back.to);
        tracing::error!(
            schema = self.schema, %from, %to,
            "the tables went back: they were restored from a backup, or this server lacks the last commits. What came in \
             since is applied again from the log; everybody signs in again; look at accounts and keys that were made, \
             changed or revoked since (docs/OPERATIONS.md, Restore)"
        );
        self.said.send_replace(Some(back));
    }

    /// Compares the counter with what was seen; gives the newest commit as it is then.
    pub(super) async fn look(&self, client: &Client) -> Result<Seq, TablesError> {
        let failed = |e: &tokio_postgres::Error| engine("counter", e);
        // Before it is asked: a commit that is seen meanwhile is newer than the answer, and nothing went back.
        let seen = *self.committed.borrow();
        let ask = async || client.query_one(&self.question(), &[]).await.map_err(|e| failed(&e));
        let row = ask().await?;
        if let Some(t) = self.take(&row, seen)? {
            return Ok(t);
        }
        let there: i64 = row.try_get(0).map_err(|e| failed(&e))?;
        if there == 0 {
            // Nobody ever committed there: that is no backup.
            return Err(TablesError::Gone { what: format!("schema {} is empty", self.schema) });
        }
        // A process that asks for the first time here has to be told as well.
        self.known.fetch_max(0, Ordering::AcqRel);
        let s = quote(&self.schema);
        // Of several processes that find it at once, each goes behind what it has seen.
        let sql = format!(
            "WITH moved AS (UPDATE {s}.hilum_counter SET t = $1::int8 + 1 WHERE t < $1::int8 RETURNING t), \
             shut AS (UPDATE {s}.hilum_window SET oldest = greatest(oldest, moved.t + 1), back_from = $1::int8, \
                 back_to = $2::int8 FROM moved), \
             freed AS (UPDATE {s}.hilum_lease SET until = 0, \
                 token = greatest(token + 1, (extract(epoch FROM clock_timestamp()) * 1000)::int8) FROM moved) \
             SELECT count(*) FROM moved"
        );
        client.query_one(&sql, &[&seen.0, &there]).await.map_err(|e| failed(&e))?;
        let now = self.take(&ask().await?, seen)?;
        now.ok_or_else(|| TablesError::Engine("postgresql: the tables go back again and again".to_owned()))
    }
}
