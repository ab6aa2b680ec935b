//! Opening: the server asked, the schema made. At once, or as soon as the server answers: until then every call gives
//! the engine's error, and there is no second way through what is open.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use hilum_core::Seq;
use tokio::sync::watch;
use tokio_postgres::NoTls;

use super::back::Behind;
use super::hold::Held;
use super::plan::Planned;
use super::tape::Tape;
use super::{
    Catalog, Postgres, PostgresConfig, Shared, client_config, connect, ddl, server, to_connect, within,
    writer,
};
use crate::limits;
use crate::tables::shape::{Schema, shape};
use crate::tables::{Table, TablesError};

/// How a schema was found: how durable its server is, or why it is not open.
pub(super) type Opened = Result<String, TablesError>;

/// Whether a schema may have this name.
///
/// # Errors
/// [`TablesError::Shape`] says what it must be.
pub fn check_schema(name: &str) -> Result<(), TablesError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.starts_with("pg_") {
        return Err(shape("(schema)", "names that begin with pg_ are PostgreSQL's own"));
    }
    if !name.bytes().all(fits) || !(1..=limits::TABLE_NAME_BYTES_MAX).contains(&name.len()) {
        return Err(shape("(schema)", "its name must be lower-case letters, digits and _, at most 40 bytes"));
    }
    Ok(())
}

impl Postgres {
    /// Connects, makes or extends the schema as `tables` declare, and starts the writer.
    ///
    /// # Errors
    /// [`TablesError::Newer`] and [`TablesError::Shape`] when the stored schema does not fit, [`TablesError::Engine`]
    /// when the server cannot be reached or does not keep what it acknowledges.
    pub async fn open(config: PostgresConfig, tables: &[&'static Table]) -> Result<Self, TablesError> {
        let this = Self::unopened(config, tables)?;
        this.prepare().await?;
        Ok(this)
    }

    /// As [`Postgres::open`], but a server that has not answered within `patience` is waited for beside: it is asked
    /// again until the tables are open ([`Postgres::wait_open`]) or closed. Until then each call gives the reason. So is
    /// a schema that a newer program has made its own: a process that needs the log alone goes on until it is upgraded.
    ///
    /// # Errors
    /// [`TablesError::Shape`] as [`Postgres::open`], where the server has answered.
    pub async fn open_later(
        config: PostgresConfig,
        tables: &[&'static Table],
        patience: Duration,
    ) -> Result<Self, TablesError> {
        let this = Self::unopened(config, tables)?;
        match tokio::time::timeout(patience, this.prepare()).await {
            Ok(Ok(())) => return Ok(this),
            Ok(Err(
                why @ (TablesError::Engine(_)
                | TablesError::InUse { .. }
                | TablesError::Gone { .. }
                | TablesError::Newer { .. }),
            )) => {
                this.not_open(&why);
            }
            Ok(Err(why)) => return Err(why),
            Err(_) => this.not_open(&no_answer(patience)),
        }
        tokio::spawn(this.clone().prepare_until_open());
        Ok(this)
    }

    /// Everything but the server: it is not asked for anything.
    fn unopened(config: PostgresConfig, tables: &[&'static Table]) -> Result<Self, TablesError> {
        check_schema(&config.schema)?;
        let schema = Schema::new(tables)?;
        let planned = tables.iter().map(|table| Planned::new(&config.schema, table)).collect();
        let catalog = Arc::new(Catalog { schema, planned });
        let client = client_config(&config)?;
        let manager = Manager::from_config(
            client.clone(),
            NoTls,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager)
            .max_size(config.pool_size.max(1))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(Duration::from_secs(limits::ENGINE_SILENCE_S_MAX)))
            .create_timeout(Some(to_connect(&client)))
            .build()
            .map_err(|_| TablesError::Engine("postgresql: no pool".to_owned()))?;
        let behind = Arc::new(Behind::new(&config.schema, config.seen));
        let tape = config.tape.as_deref().map(Tape::create).transpose();
        let tape = tape.map_err(|why| TablesError::Engine(format!("tape: {}", why.kind())))?;
        let orders = writer::start(writer::Setup {
            client: client.clone(),
            allow_weak: config.allow_weak,
            schema: config.schema.clone(),
            tables: catalog.clone(),
            behind: behind.clone(),
            patience: config.patience,
            tape,
        });
        let not_yet = TablesError::Engine("postgresql: not open yet".to_owned());
        Ok(Self(Arc::new(Shared {
            schema: config.schema,
            declared: tables.to_vec(),
            tables: catalog,
            client,
            allow_weak: config.allow_weak,
            pool,
            orders,
            behind,
            patience: config.patience,
            opened: watch::Sender::new(Err(not_yet)),
            hold: config.hold,
            holder: config.holder,
            anew: config.anew,
            seen: config.seen,
            held: OnceLock::new(),
        })))
    }

    /// Asks the server what it promises and makes the schema; then the tables are open.
    async fn prepare(&self) -> Result<(), TablesError> {
        let shared = &self.0;
        let mut client = connect(&shared.client).await?;
        let limit = shared.patience.answer;
        let checked = server::check(&client, shared.allow_weak);
        let described = within("server settings", limit, checked).await?;
        if shared.held.get().is_none() {
            let (client, patience) = (&shared.client, shared.patience);
            let held = Held::take(client, &shared.schema, shared.hold, &shared.holder, patience).await?;
            // Nobody else prepares.
            drop(shared.held.set(held));
        }
        let must_be_there = shared.seen > Seq(0);
        let wanted = ddl::Wanted { tables: &shared.declared, anew: shared.anew, must_be_there };
        ddl::migrate(&mut client, &shared.schema, &wanted).await?;
        within("counter", limit, shared.behind.look(&client)).await?;
        drop(client);
        tracing::info!(schema = shared.schema, engine = described, "the tables are open");
        shared.opened.send_modify(|opened| *opened = Ok(described));
        self.now().await.map(drop)
    }

    async fn prepare_until_open(self) {
        let wait = Duration::from_secs(limits::ENGINE_SILENCE_S_MAX);
        let mut pause = Duration::from_millis(limits::ENGINE_REOPEN_MS);
        while !self.0.pool.is_closed() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(limits::ENGINE_REOPEN_S_MAX));
            let why = match tokio::time::timeout(wait, self.prepare()).await {
                Err(_) => no_answer(wait),
                Ok(Err(why)) => why,
                Ok(Ok(())) => return,
            };
            // It was open for a moment: calls speak for themselves from then on.
            if self.is_open().is_ok() {
                return;
            }
            self.not_open(&why);
        }
    }

    /// Says why the tables are not open, once for each reason.
    fn not_open(&self, why: &TablesError) {
        let is_news = self.is_open().err().is_none_or(|before| before.to_string() != why.to_string());
        if is_news {
            tracing::warn!(schema = self.0.schema, %why, "the tables are not open yet; they are asked for again");
            self.0.opened.send_modify(|opened| *opened = Err(why.clone()));
        }
    }

    /// Whether there is anything to ask.
    ///
    /// # Errors
    /// Why the tables are not open yet.
    pub(super) fn is_open(&self) -> Result<(), TablesError> {
        self.0.opened.borrow().as_ref().map(drop).map_err(Clone::clone)
    }

    /// Waits until the tables are open, however long that is.
    pub async fn wait_open(&self) {
        // The sender lives as long as `self`.
        self.0.opened.subscribe().wait_for(Result::is_ok).await.map(drop).unwrap_or_default();
    }
}

fn no_answer(waited: Duration) -> TablesError {
    TablesError::Engine(format!("postgresql: no answer within {} s", waited.as_secs()))
}
