//! A real PostgreSQL for tests: gone when the test's process is gone, however it ended.

use std::io;
use std::ops::Deref;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::{cache, folder};

/// A running PostgreSQL server. What else it can do is [`hilum_launch::Postgres`]'s.
#[derive(Debug)]
pub struct Postgres(hilum_launch::Postgres);

static SHARED: Mutex<Option<&'static Postgres>> = Mutex::new(None);
static OLDEST: Mutex<Option<&'static Postgres>> = Mutex::new(None);
/// The oldest that hilum takes.
const OLDEST_VERSION: &str = "13.22.0";
static SCHEMAS: AtomicU32 = AtomicU32::new(0);

impl Deref for Postgres {
    type Target = hilum_launch::Postgres;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Postgres {
    /// The server that all tests of this process share; the first caller starts it.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn shared() -> &'static Self {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        // Never dropped: its watcher stops it when this process ends.
        shared.get_or_insert_with(|| Box::leak(Box::new(Self::start(&[]))))
    }

    /// As [`Postgres::shared`], of the oldest version that hilum takes.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn oldest() -> &'static Self {
        let mut oldest = OLDEST.lock().unwrap_or_else(PoisonError::into_inner);
        oldest.get_or_insert_with(|| Box::leak(Box::new(Self::older(OLDEST_VERSION))))
    }

    /// A server of the caller's own, with settings (`fsync=off`) beyond the default ones.
    ///
    /// # Panics
    /// When PostgreSQL is not installed (the message names the package) or does not start (with its log).
    pub fn start(settings: &[&str]) -> Self {
        let password = format!("test-{}", std::process::id());
        let started = folder("hilum-postgres-")
            .and_then(|dir| hilum_launch::Postgres::start(&dir, &password, settings));
        match started {
            Ok(server) => Self(server),
            Err(error) => panic!("postgresql for tests: {error}"),
        }
    }

    /// A server of an older version (`12.22.0`) that `scripts/install-tools` fetched.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn older(version: &str) -> Self {
        let password = format!("test-{}", std::process::id());
        let started = hilum_launch::installed(&cache(), &format!("postgresql-{version}")).and_then(|kept| {
            let dir = folder("hilum-postgres-")?;
            // Who runs it may not read our home.
            let programs = dir.join("programs");
            let copied = Command::new("cp").arg("-r").arg(kept.join("home")).arg(&programs).status()?;
            if !copied.success() {
                return Err(io::Error::other("its programs could not be copied"));
            }
            hilum_launch::Postgres::start_of(&programs.join("bin"), &dir, &password, &[])
        });
        match started {
            Ok(server) => Self(server),
            Err(error) => panic!("postgresql {version} for tests: {error}"),
        }
    }

    /// A standby of this server, which knows it as `name`.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    #[must_use]
    pub fn standby(&self, name: &str) -> Self {
        match folder("hilum-standby-").and_then(|dir| self.0.standby(&dir, name)) {
            Ok(server) => Self(server),
            Err(error) => panic!("a standby for tests: {error}"),
        }
    }

    /// A schema name that no other test of this server has.
    pub fn fresh_schema(&self) -> String {
        format!("test_{}", SCHEMAS.fetch_add(1, Ordering::Relaxed))
    }

    /// Kills the server with SIGKILL, all its processes: what a crash of PostgreSQL is.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&self) {
        self.0.kill().expect("a running server");
    }

    /// Stops all its processes where they are: connections stand, and nothing answers.
    ///
    /// # Panics
    /// When it is not running.
    pub fn freeze(&self) {
        self.0.freeze().expect("a running server");
    }

    /// Lets it go on after [`Postgres::freeze`].
    ///
    /// # Panics
    /// When it is not running.
    pub fn thaw(&self) {
        self.0.thaw().expect("a running server");
    }

    /// Starts it again after [`Postgres::kill`], on the same folder and port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self) {
        self.0.restart().expect("postgresql starts again");
    }

    /// Keeps a copy of all that it has, as it is now: a backup. It is killed and started again for that.
    ///
    /// # Panics
    /// When that cannot be done.
    pub fn save(&self, name: &str) {
        self.kill();
        self.copy("data", name);
        self.restart();
    }

    /// Puts a copy back in the place of what it has, as somebody does who restores a backup, or as a fail-over to another
    /// server.
    ///
    /// # Panics
    /// When there is no such copy, or it does not start on it.
    pub fn put_back(&self, name: &str) {
        self.kill();
        std::fs::remove_dir_all(self.dir().join("data")).expect("what it had goes");
        self.copy(name, "data");
        // It names a process of then.
        std::fs::remove_file(self.dir().join("data/postmaster.pid")).expect("it ran then");
        self.restart();
    }

    fn copy(&self, from: &str, to: &str) {
        let (from, to) = (self.dir().join(from), self.dir().join(to));
        let done = std::process::Command::new("cp").arg("-a").args([&from, &to]).status().expect("cp");
        assert!(done.success(), "{} to {}", from.display(), to.display());
    }

    /// What a statement gives, as text; NULL is nothing.
    ///
    /// # Panics
    /// When the server does not answer it.
    pub fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let connected = tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await;
            let (client, connection) = connected.expect("connects");
            tokio::spawn(connection);
            let said = client.simple_query(sql).await.expect("answers");
            let rows = said.iter().filter_map(|one| match one {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            let texts = |row: &tokio_postgres::SimpleQueryRow| {
                (0..row.len()).map(|n| row.get(n).unwrap_or_default().to_owned()).collect()
            };
            rows.map(texts).collect()
        })
    }

    /// Takes the advisory lock that processes of ours share under `name`, for as long as what it returns lives. `cut`
    /// is SQL that takes it from them.
    ///
    /// # Panics
    /// When it cannot be had.
    pub fn hold_alone(&self, name: &str, cut: &str) -> HeldAlone {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let url = format!("{}?application_name=a%20rebuild%20of%20the%20test", self.url());
        let client = runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connects");
            tokio::spawn(connection);
            let lock = "SELECT pg_try_advisory_lock(hashtextextended($1, 7467))";
            for _ in 0..1_000 {
                client.batch_execute(cut).await.expect("cuts");
                let row = client.query_one(lock, &[&name]).await.expect("asks");
                if row.get::<_, bool>(0) {
                    return client;
                }
            }
            panic!("somebody else has it")
        });
        HeldAlone { _client: client, _runtime: runtime }
    }
}

/// A lock that is held ([`Postgres::hold_alone`]).
#[derive(Debug)]
pub struct HeldAlone {
    _client: tokio_postgres::Client,
    _runtime: tokio::runtime::Runtime,
}
