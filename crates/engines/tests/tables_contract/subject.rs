//! The engines under test, and planted faults that the suite must find.

use std::collections::HashSet;
use std::sync::Mutex;

use hilum_core::{Epoch, Seq, Stream, Timestamp};
use hilum_engines::tables::postgres::{Postgres, PostgresConfig};
use hilum_engines::tables::query::{Answer, Bounds, Check, Query, Test};
use hilum_engines::tables::sqlite::{Options, Sqlite};
use hilum_engines::tables::{
    Batch, Change, OffsetMove, Read, Row, Scan, Table, Tables, TablesError, Token, Value, Write,
};
use hilum_testkit::postgres::Postgres as Server;

use crate::sample::TABLES;

/// Every engine that the suite runs on. A new one makes the matches below incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineUnderTest {
    Sqlite,
    Postgres,
    /// The oldest version that we take.
    OldestPostgres,
}

/// A way for an engine to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Expectations are not looked at.
    IgnoresExpectations,
    /// Only rows that were there are validated, absent ones are not.
    IgnoresAbsent,
    /// The writes go first, the check of expectations comes after them, in a commit of its own.
    ChecksAfterWriting,
    /// A register takes whatever comes last.
    TakesAnyStamp,
    /// Moves an offset from wherever it is.
    MovesAnyOffset,
    /// Shows a commit late, behind its followers, as an engine does that numbers commits before they are made.
    NumbersBeforeCommit,
    /// Absent values stand last.
    PutsNullsLast,
    /// The cursor's row comes again.
    RepeatsTheCursor,
    /// Every holder gets the same token.
    ForgetsToCountTokens,
    /// Says that it is committed, and forgets the last write.
    LosesAWrite,
    /// Rows are not held to what a query keeps: those that are over count.
    ShowsWhatIsOver,
    /// Of several checks the last one is forgotten.
    ForgetsACheck,
    /// Only ever goes forward.
    NeverTurns,
    /// A subject comes once for each of its rows.
    GivesEachRow,
    /// A count goes on beyond the rows that it may look at.
    CountsWhatIsTooWide,
    /// A text is looked for as a whole, not as a part.
    LooksForTheWhole,
    /// A query says that it saw a commit which it did not see.
    SaysTheNextCommit,
}

/// One engine with a place of its own to keep things.
pub struct Subject {
    pub engine: EngineUnderTest,
    pub tables: Tables,
    place: Place,
    fault: Option<Fault>,
    hidden: Mutex<HashSet<i64>>,
    begun: tokio::time::Instant,
}

enum Place {
    Dir(tempfile::TempDir),
    Schema(PostgresConfig),
}

impl Subject {
    pub async fn new(engine: EngineUnderTest) -> Self {
        let place = match engine {
            EngineUnderTest::Sqlite => Place::Dir(tempfile::tempdir().expect("a folder")),
            EngineUnderTest::Postgres | EngineUnderTest::OldestPostgres => {
                let server = match engine {
                    EngineUnderTest::OldestPostgres => Server::oldest(),
                    EngineUnderTest::Sqlite | EngineUnderTest::Postgres => Server::shared(),
                };
                let mut config = PostgresConfig::new(server.url(), server.fresh_schema());
                config.pool_size = 4;
                Place::Schema(config)
            }
        };
        let tables = open(&place, &TABLES).await.expect("the engine opens");
        Self {
            engine,
            tables,
            place,
            fault: None,
            hidden: Mutex::default(),
            begun: tokio::time::Instant::now(),
        }
    }

    pub async fn planted(engine: EngineUnderTest, fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::new(engine).await }
    }

    /// Closes and opens again.
    pub async fn reopen(&mut self, tables: &[&'static Table]) -> Result<(), TablesError> {
        self.tables.close().await;
        self.tables = open(&self.place, tables).await?;
        Ok(())
    }

    /// Another process on the same tables where the engine allows it, else the same handle.
    pub async fn other_process(&self) -> Tables {
        match &self.place {
            Place::Dir(_) => self.tables.clone(),
            Place::Schema(_) => open(&self.place, &TABLES).await.expect("a second process opens"),
        }
    }

    /// Whether [`Subject::other_process`] is another one.
    pub fn allows_two_processes(&self) -> bool {
        match self.engine {
            EngineUnderTest::Sqlite => false,
            EngineUnderTest::Postgres | EngineUnderTest::OldestPostgres => true,
        }
    }

    /// Makes the stored schema look like a newer program's.
    pub async fn make_newer(&mut self) {
        self.tables.close().await;
        match &self.place {
            Place::Dir(dir) => {
                let db = rusqlite::Connection::open(dir.path().join("tables.sqlite")).expect("the file");
                db.pragma_update(None, "user_version", 1_000_000).expect("a newer version");
            }
            Place::Schema(config) => {
                let (client, connection) =
                    tokio_postgres::connect(&config.url, tokio_postgres::NoTls).await.expect("the server");
                let connection = tokio::spawn(connection);
                let sql = format!("UPDATE {}.hilum_version SET version = 1000000", config.schema);
                client.execute(&sql, &[]).await.expect("a newer version");
                drop(client);
                connection.await.expect("the connection's task").expect("the connection");
            }
        }
    }

    pub async fn commit(&self, mut batch: Batch) -> Result<Seq, TablesError> {
        match self.fault {
            Some(Fault::IgnoresExpectations) => batch.expects.clear(),
            Some(Fault::IgnoresAbsent) => batch.expects.retain(|expect| expect.t.is_some()),
            Some(Fault::ChecksAfterWriting) => {
                let expects = std::mem::take(&mut batch.expects);
                // The check sees the rows as the writes left them: expectations of rows not written still hold.
                self.tables.commit(batch).await?;
                return self.tables.commit(Batch { expects, ..Batch::default() }).await;
            }
            Some(Fault::TakesAnyStamp) => {
                for write in &mut batch.writes {
                    if let Write::PutIfNewer { table, values } = write {
                        *write = Write::Put { table, values: values.clone() };
                    }
                }
            }
            Some(Fault::MovesAnyOffset) => {
                if let Some(OffsetMove { projection, stream, partition, epoch, from, .. }) = &mut batch.offset
                {
                    *from = self.tables.offset(projection, *stream, *partition, *epoch).await?;
                }
            }
            Some(Fault::LosesAWrite) => {
                batch.writes.pop();
            }
            _ => {}
        }
        self.tables.commit(batch).await
    }

    pub async fn read(&self, reads: &[Read]) -> Result<Vec<Vec<Row>>, TablesError> {
        let mut answers = self.tables.read(reads).await?;
        for (answer, read) in answers.iter_mut().zip(reads) {
            let Read::Scan(scan) = read else { continue };
            if self.fault == Some(Fault::RepeatsTheCursor)
                && scan.after.is_some()
                && let Some(row) = answer.first().cloned()
            {
                answer.insert(0, row);
            }
            if self.fault == Some(Fault::PutsNullsLast) {
                answer.sort_by_key(|row| row.values.get(2) == Some(&Value::Null));
            }
        }
        Ok(answers)
    }

    pub async fn get(&self, table: &'static Table, key: Vec<Value>) -> Result<Option<Row>, TablesError> {
        let answer = self.read(&[Read::Get { table: table.name, key }]).await?;
        Ok(answer.into_iter().flatten().next())
    }

    pub async fn scan(&self, scan: Scan) -> Result<Vec<Row>, TablesError> {
        Ok(self.read(&[Read::Scan(scan)]).await?.into_iter().flatten().collect())
    }

    pub async fn query(&self, query: &Query) -> Result<Answer, TablesError> {
        let mut query = query.clone();
        match self.fault {
            Some(Fault::ShowsWhatIsOver) => {
                for check in &mut query.checks {
                    if let Check::Has(probe) | Check::Each { probe, .. } = check {
                        probe.keep.clear();
                    }
                }
            }
            Some(Fault::ForgetsACheck) => {
                query.checks.pop();
            }
            Some(Fault::LooksForTheWhole) => {
                for check in &mut query.checks {
                    if let Check::Has(probe) = check {
                        for keep in &mut probe.keep {
                            if let Test::Contains(part) = &keep.test {
                                keep.test = Test::Is(part.clone());
                            }
                        }
                    }
                }
            }
            Some(Fault::NeverTurns) => query.reversed = false,
            _ => {}
        }
        let mut answer = self.tables.query(&query).await?;
        if self.fault == Some(Fault::GivesEachRow)
            && let Some(first) = answer.found.first().cloned()
        {
            answer.found.insert(0, first);
            answer.found.truncate(query.limit as usize);
        }
        if self.fault == Some(Fault::SaysTheNextCommit) {
            answer.t = Seq(answer.t.0 + 1);
        }
        Ok(answer)
    }

    pub async fn query_counts(
        &self,
        queries: &[Query],
        mut bounds: Bounds,
    ) -> Result<Vec<Option<u64>>, TablesError> {
        if self.fault == Some(Fault::CountsWhatIsTooWide) {
            bounds.rows = None;
        }
        self.tables.query_counts(queries, bounds).await
    }

    pub async fn changes(&self, after: Seq, limit: u32) -> Result<Vec<Change>, TablesError> {
        let mut changes = self.tables.changes(after, limit).await?;
        if self.fault == Some(Fault::NumbersBeforeCommit) {
            let mut hidden = self.hidden.lock().expect("nobody panics with it");
            changes.retain(|change| change.t.0 % 7 != 0 || !hidden.insert(change.t.0));
        }
        Ok(changes)
    }

    pub async fn offset(&self, projection: &str, partition: u16, epoch: Epoch) -> Result<u64, TablesError> {
        self.tables.offset(projection, Stream::Hl7In, partition, epoch).await
    }

    pub async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: i64,
        until: i64,
    ) -> Result<Option<Token>, TablesError> {
        // In hundredths of a second. A server's clock cannot be set: it is waited for.
        if self.allows_two_processes() {
            tokio::time::sleep_until(self.begun + std::time::Duration::from_millis(now as u64 * 10)).await;
        }
        let (now, until) = (Timestamp::from_micros(now * 10_000), Timestamp::from_micros(until * 10_000));
        let token = self.tables.lease(name, holder, now, until).await?;
        Ok(if self.fault == Some(Fault::ForgetsToCountTokens) { token.map(|_| Token(1)) } else { token })
    }
}

async fn open(place: &Place, tables: &[&'static Table]) -> Result<Tables, TablesError> {
    match place {
        Place::Dir(dir) => {
            let path = dir.path().join("tables.sqlite");
            Sqlite::open(path.as_path(), tables, Options::default()).map(Tables::Sqlite)
        }
        Place::Schema(config) => Postgres::open(config.clone(), tables).await.map(Tables::Postgres),
    }
}
