//! Who works on a schema: every process holds it together with the others, a rebuild alone. PostgreSQL keeps that as an
//! advisory lock for as long as the connection lives on which it was taken, so nobody has to clean up after a process
//! that died; and who sees that connection end commits nothing until it has the lock again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use super::trouble::CONNECT;
use super::{Patience, engine, within};
use crate::limits;
use crate::tables::TablesError;

/// With whom a process shares a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// With all others that do the same.
    #[default]
    Shared,
    /// With nobody: for what would be undone by others' commits.
    Alone,
}

/// A schema that is held.
pub(super) struct Held {
    /// Why it is not just now.
    lost: watch::Receiver<Option<String>>,
    /// Keeps it; given up with this.
    keeper: Mutex<JoinSet<()>>,
}

/// A connection that holds the lock, and the news of its end.
struct Link {
    client: Client,
    ended: oneshot::Receiver<()>,
}

#[derive(Clone)]
struct Lock {
    client: tokio_postgres::Config,
    schema: String,
    hold: Hold,
    answer: Duration,
}

impl Lock {
    async fn connect(&self) -> Result<(Client, oneshot::Receiver<()>), TablesError> {
        let (client, connection) = self.client.connect(NoTls).await.map_err(|e| engine(CONNECT, &e))?;
        let (end, ended) = oneshot::channel();
        tokio::spawn(async move {
            // Why it ended is said where the others end.
            connection.await.ok();
            end.send(()).ok();
        });
        Ok((client, ended))
    }

    /// Takes the lock. One that was just given up may take a moment to be free.
    async fn take(&self) -> Result<Link, TablesError> {
        let (client, ended) = self.connect().await?;
        let failed = |e: &tokio_postgres::Error| engine("hold", e);
        let name = format!("hilum processes of {}", self.schema);
        let lock = match self.hold {
            Hold::Shared => "SELECT pg_try_advisory_lock_shared(hashtextextended($1, 7467))",
            Hold::Alone => "SELECT pg_try_advisory_lock(hashtextextended($1, 7467))",
        };
        let until = tokio::time::Instant::now() + Duration::from_millis(limits::TABLES_HOLD_MS_MAX);
        loop {
            let got = client.query_one(lock, &[&name]).await.and_then(|row| row.try_get::<_, bool>(0));
            if got.map_err(|e| failed(&e))? {
                return Ok(Link { client, ended });
            }
            if tokio::time::Instant::now() >= until {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let rows = client
            .query(
                "SELECT DISTINCT coalesce(nullif(a.application_name, ''), 'somebody') || \
                        coalesce(' at ' || host(a.client_addr), ' on the database''s machine') \
                 FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_backend_pid() \
                   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                   AND ((l.classid::int8 << 32) | l.objid::int8) = hashtextextended($1, 7467) ORDER BY 1",
                &[&name],
            )
            .await
            .map_err(|e| failed(&e))?;
        let who: Vec<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
        let by = if who.is_empty() { "somebody who has gone since".to_owned() } else { who.join(", ") };
        Err(TablesError::InUse { schema: self.schema.clone(), by, alone: self.hold == Hold::Alone })
    }
}

impl Held {
    /// Takes a schema and keeps it; `holder` is whom others are told.
    pub(super) async fn take(
        client: &tokio_postgres::Config,
        schema: &str,
        hold: Hold,
        holder: &str,
        patience: Patience,
    ) -> Result<Self, TablesError> {
        let mut client = client.clone();
        client.application_name(holder);
        let lock = Lock { client, schema: schema.to_owned(), hold, answer: patience.answer };
        let link = within("hold", lock.answer, lock.take()).await?;
        let (say, lost) = watch::channel(None);
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(lock, link, say));
        Ok(Self { lost, keeper: Mutex::new(keeper) })
    }

    /// Whether it is held just now.
    ///
    /// # Errors
    /// [`TablesError::Engine`]: why not. Then nothing may be written.
    pub(super) fn check(&self) -> Result<(), TablesError> {
        self.lost.borrow().as_ref().map_or(Ok(()), |why| Err(TablesError::Engine(why.clone())))
    }

    /// As [`Held::check`], but waits a moment for a connection that is being made anew.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn wait(&self) -> Result<(), TablesError> {
        if self.check().is_err() {
            let mut lost = self.lost.clone();
            let limit = Duration::from_millis(limits::TABLES_HOLD_MS_MAX);
            // Whether it came back says less than another look.
            tokio::time::timeout(limit, lost.wait_for(Option::is_none)).await.map(drop).ok();
        }
        self.check()
    }

    /// Gives it up.
    pub(super) fn give_up(&self) {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// Waits until the connection is gone, or a server that others may have taken the place of answers nothing on it. Whoever
/// is alone must not lose what it is at by a moment's silence: nobody else has its lock while the connection stands.
async fn lost_link(link: &mut Link, lock: &Lock) {
    loop {
        tokio::select! {
            // However it ended.
            _ = &mut link.ended => return,
            () = tokio::time::sleep(lock.answer), if lock.hold == Hold::Shared => {}
        }
        let asked = async { link.client.simple_query("").await.map_err(|e| engine("hold", &e)) };
        if within("hold", lock.answer, asked).await.is_err() {
            return;
        }
    }
}

/// Says when the lock is lost, and takes it again where others may have had it meanwhile.
async fn keep(lock: Lock, mut link: Link, lost: watch::Sender<Option<String>>) {
    loop {
        lost_link(&mut link, &lock).await;
        let schema = &lock.schema;
        lost.send_replace(Some(format!("postgresql: the connection that holds schema {schema} is gone")));
        tracing::warn!(
            schema,
            "the connection that holds the schema is gone: nothing is committed until it is back"
        );
        if lock.hold == Hold::Alone {
            return; // others may have written since: whoever wanted to be alone begins anew
        }
        link = loop {
            match within("hold", lock.answer, lock.take()).await {
                Ok(link) => break link,
                Err(why) => drop(lost.send_replace(Some(why.to_string()))),
            }
            tokio::time::sleep(Duration::from_millis(limits::TABLES_HOLD_RETRY_MS)).await;
        };
        lost.send_replace(None);
        tracing::info!(schema, "the schema is held again");
    }
}
