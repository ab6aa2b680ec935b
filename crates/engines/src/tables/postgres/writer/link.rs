//! The writer's connection: made, flown over, and asked what became of a flight when it broke.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio_postgres::Statement;
use uuid::Uuid;

use super::flight::Flight;
use super::group::Waiting;
use super::{Identity, Landing, Link, Verdict, Writer};
use crate::tables::postgres::{Call, connect, engine, fly, server, within};
use crate::tables::{Batch, TablesError};

impl Writer {
    /// Sends a group and says how it landed. An error means that nothing was sent.
    pub(super) async fn fly(&mut self, group: &[Waiting]) -> Result<Landing, TablesError> {
        let identity = self.ready().await?;
        let batches: Vec<&Batch> = group.iter().map(|waiting| &waiting.checked.batch).collect();
        let flight = Flight::new(&self.setup.tables, &self.sql, &batches, identity)?;
        let patience = self.setup.patience;
        let Some(link) = &mut self.link else { return Err(no_connection()) };
        let prepared = within("prepare", patience.answer, link.prepare(&flight.calls)).await;
        let statements = match prepared {
            Ok(statements) => statements,
            Err(error) => {
                self.link = None;
                return Err(error);
            }
        };
        hilum_core::failpoint::hit("commit");
        let flying = fly(&link.client, &statements, &flight.calls);
        let answers = tokio::time::timeout(patience.commit, flying).await;
        let landing = match answers {
            Ok(answers) => flight.land(answers),
            Err(_) => Landing::Unknown,
        };
        if let (Some(tape), Landing::Committed { base, refused }) = (&mut self.setup.tape, &landing)
            && let Err(why) = flight.record(tape, &statements, *base, refused)
        {
            tracing::error!(%why, "the tape ends here");
            self.setup.tape = None;
        }
        match &landing {
            Landing::Committed { .. } => self.identity = Some(Identity { seq: identity.seq + 1, ..identity }),
            Landing::Unknown => {
                self.identity = Some(Identity { unknown: true, ..identity });
                self.link = None;
            }
            // The transaction is over, the connection is as good as before.
            Landing::AllRefused(_) | Landing::RolledBack(_) => {}
            Landing::Failed(_) => self.link = None,
            Landing::Unsigned => self.identity = None,
        }
        Ok(landing)
    }

    /// Connects if need be, and makes sure that this process has its row and no flight of unknown end. What fails there
    /// leaves no connection behind: the next one is looked at from its beginning.
    async fn ready(&mut self) -> Result<Identity, TablesError> {
        let ready = within("ready", self.setup.patience.answer, self.make_ready()).await;
        if ready.is_err() {
            self.link = None;
        }
        ready
    }

    async fn make_ready(&mut self) -> Result<Identity, TablesError> {
        if self.link.as_ref().is_some_and(|link| link.client.is_closed()) {
            self.link = None;
        }
        let fresh = self.link.is_none();
        if fresh {
            self.connect().await?;
        }
        if let Some(identity) = self.identity
            && identity.unknown
        {
            self.ask(identity).await?;
        }
        let Some(Link { client, .. }) = &self.link else { return Err(no_connection()) };
        if let Some(identity) = self.identity {
            if fresh {
                self.setup.behind.look(client).await?;
            }
            return Ok(identity);
        }
        // A row that is gone, or a first one: before anything is written on tables that may be older than what was seen.
        self.setup.behind.look(client).await?;
        let writer = client
            .query_one(&self.sql.register, &[])
            .await
            .and_then(|row| row.try_get::<_, Uuid>(0))
            .map_err(|e| engine("register writer", &e))?;
        let identity = Identity { writer, seq: 0, unknown: false };
        self.identity = Some(identity);
        Ok(identity)
    }

    /// Makes a connection to a server that keeps what it acknowledges: it may have come back with other settings, or be
    /// another one.
    async fn connect(&mut self) -> Result<(), TablesError> {
        let client = connect(&self.setup.client).await?;
        server::check(&client, self.setup.allow_weak).await?;
        self.link = Some(Link { client, statements: HashMap::new() });
        Ok(())
    }

    /// Finds out what became of a flight whose connection broke, for as long as the server may need to come back.
    pub(super) async fn resolve(&mut self) -> Landing {
        let Some(identity) = self.identity else { return Landing::Unknown };
        let until = tokio::time::Instant::now() + self.setup.patience.ask;
        let mut pause = Duration::from_millis(50);
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let asked = within("ask for a commit", left, async {
                self.connect().await?;
                self.ask(identity).await
            })
            .await;
            // Whether its tables are older than what was seen, the next flight finds on a connection of its own.
            self.link = None;
            match asked {
                Ok(landing) => return landing,
                Err(error) => tracing::warn!(%error, "the end of a commit is not known yet"),
            }
            if tokio::time::Instant::now() + pause > until {
                return Landing::Unknown;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Asks once. Either the flight has signed, or this makes its signature impossible: there is no third.
    async fn ask(&mut self, identity: Identity) -> Result<Landing, TablesError> {
        let failed = |e: &tokio_postgres::Error| engine("ask for a commit", e);
        let Some(Link { client, .. }) = &self.link else { return Err(no_connection()) };
        let asked = identity.seq + 1;
        let known = Identity { seq: asked, unknown: false, ..identity };
        let fenced =
            client.query_opt(&self.sql.fence, &[&identity.writer, &asked]).await.map_err(|e| failed(&e))?;
        let given_up = || {
            Landing::Failed(TablesError::Engine(
                "postgresql, commit: the connection broke before it was committed; nothing was written"
                    .to_owned(),
            ))
        };
        if fenced.is_some() {
            self.identity = Some(known);
            return Ok(given_up());
        }
        let row = client.query_opt(&self.sql.ask, &[&identity.writer]).await.map_err(|e| failed(&e))?;
        let Some(row) = row else {
            self.identity = None; // the row is gone, and so is all that it could tell
            return Ok(Landing::Unknown);
        };
        let seq: i64 = row.try_get(0).map_err(|e| failed(&e))?;
        let base: Option<i64> = row.try_get(1).map_err(|e| failed(&e))?;
        let bad: Option<Vec<i32>> = row.try_get(2).map_err(|e| failed(&e))?;
        // Lower than it was where the tables went back: the next flight finds that out before it begins.
        self.identity = Some(Identity { seq, ..known });
        Ok(match base {
            Some(base) if seq == asked => Landing::Committed { base, refused: refused_by(bad.as_deref()) },
            _ => given_up(),
        })
    }
}

impl Link {
    /// The calls' statements, prepared in one round trip where they are new.
    async fn prepare(&mut self, calls: &[Call<'_>]) -> Result<Vec<Statement>, TablesError> {
        let mut new: Vec<&str> = Vec::new();
        for call in calls {
            if !self.statements.contains_key(&call.sql) && !new.contains(&call.sql.as_str()) {
                new.push(&call.sql);
            }
        }
        let prepared = futures::future::try_join_all(new.iter().map(|sql| self.client.prepare(sql)))
            .await
            .map_err(|e| engine("prepare", &e))?;
        for (sql, statement) in new.into_iter().zip(prepared) {
            self.statements.insert(sql.to_owned(), statement);
        }
        Ok(calls.iter().filter_map(|call| self.statements.get(&call.sql).cloned()).collect())
    }
}

fn no_connection() -> TablesError {
    TablesError::Engine("postgresql: no connection".to_owned())
}

fn refused_by(bad: Option<&[i32]>) -> BTreeMap<usize, Verdict> {
    bad.unwrap_or_default()
        .iter()
        .filter_map(|n| Some((usize::try_from(*n).ok()?, Verdict::Refused)))
        .collect()
}
