//! What a server promises by its settings, and whether that is enough.

use tokio_postgres::Client;

use super::engine;
use crate::tables::TablesError;

/// PostgreSQL 13: the oldest that the contract suite's statements are written for.
const VERSION_MIN: i32 = 130_000;

/// What a server says of itself, as it holds for our sessions: a role or a database may have settings of its own.
#[derive(Debug, Clone)]
struct Says {
    version: i32,
    encoding: String,
    is_read_only: bool,
    /// Settings that are off, each with where that was said.
    off: Vec<(String, String)>,
    synchronous_commit: String,
    has_standbys: bool,
}

impl Says {
    async fn ask(client: &Client) -> Result<Self, TablesError> {
        let failed = |e: &tokio_postgres::Error| engine("server settings", e);
        let sql = "SELECT current_setting('server_version_num')::int4, current_setting('server_encoding'), \
                   pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool, \
                   current_setting('synchronous_commit'), current_setting('synchronous_standby_names') <> ''";
        let row = client.query_one(sql, &[]).await.map_err(|e| failed(&e))?;
        let sql = "SELECT name, source FROM pg_settings WHERE setting = 'off' \
                   AND name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name";
        let rows = client.query(sql, &[]).await.map_err(|e| failed(&e))?;
        let read = || -> Result<Self, tokio_postgres::Error> {
            let off = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
            Ok(Self {
                version: row.try_get(0)?,
                encoding: row.try_get(1)?,
                is_read_only: row.try_get(2)?,
                off: off.collect::<Result<_, tokio_postgres::Error>>()?,
                synchronous_commit: row.try_get(3)?,
                has_standbys: row.try_get(4)?,
            })
        };
        read().map_err(|e| failed(&e))
    }

    /// How durable its commits are, or why it is refused.
    fn judge(&self, allow_weak: bool) -> Result<String, String> {
        if self.version < VERSION_MIN {
            return Err(format!(
                "the server is PostgreSQL {}: hilum needs {} or newer",
                self.version / 10_000,
                VERSION_MIN / 10_000
            ));
        }
        if self.encoding != "UTF8" {
            return Err(format!("the database's encoding is {}: it must be UTF8", self.encoding));
        }
        if self.is_read_only {
            return Err(
                "the server is read-only (a standby?): tables.url must lead to the primary".to_owned()
            );
        }
        let off: Vec<String> = self.off.iter().map(|(name, place)| format!("{name} ({place})")).collect();
        let off = off.join(", ");
        if off.is_empty() {
            let is_replicated = self.has_standbys
                && ["on", "remote_apply", "remote_write"].contains(&&*self.synchronous_commit);
            return Ok(if is_replicated { "fsync, replicated" } else { "fsync" }.to_owned());
        }
        if allow_weak {
            return Ok(format!("WEAK, off: {off}"));
        }
        Err(format!(
            "it may lose what it acknowledged, off: {off}. Turn it on (ALTER SYSTEM, DATABASE or ROLE … SET); for a \
             trial, never for patients: --allow-weak-tables"
        ))
    }
}

/// Refuses a server that would break a promise; says how durable its commits are.
pub(super) async fn check(client: &Client, allow_weak: bool) -> Result<String, TablesError> {
    let level = Says::ask(client).await?.judge(allow_weak);
    let level = level.map_err(|why| TablesError::Engine(format!("postgresql: {why}")))?;
    Ok(format!("postgresql {level}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_promises_decides() {
        let good = Says {
            version: 150_004,
            encoding: "UTF8".to_owned(),
            is_read_only: false,
            off: Vec::new(),
            synchronous_commit: "on".to_owned(),
            has_standbys: false,
        };
        let says = |change: fn(&mut Says)| {
            let mut says = good.clone();
            change(&mut says);
            says
        };
        let off = |names: &[&str]| {
            let off = names.iter().map(|name| ((*name).to_owned(), "database".to_owned())).collect();
            Says { off, ..good.clone() }
        };
        let cases = [
            ("as it comes", good.clone(), Ok("fsync")),
            ("the oldest", says(|says| says.version = 130_000), Ok("fsync")),
            ("one before it", says(|says| says.version = 120_022), Err("PostgreSQL 12: hilum needs 13")),
            ("long ago", says(|says| says.version = 90_624), Err("PostgreSQL 9:")),
            ("another encoding", says(|says| says.encoding = "SQL_ASCII".to_owned()), Err("SQL_ASCII")),
            ("a standby", says(|says| says.is_read_only = true), Err("lead to the primary")),
            ("a standby that is waited for", says(|says| says.has_standbys = true), Ok("fsync, replicated")),
            (
                "a standby's memory is another machine's",
                says(|says| {
                    (says.has_standbys, says.synchronous_commit) = (true, "remote_write".to_owned());
                }),
                Ok("fsync, replicated"),
            ),
            (
                "one that is not waited for",
                says(|says| (says.has_standbys, says.synchronous_commit) = (true, "local".to_owned())),
                Ok("fsync"),
            ),
            ("no fsync", off(&["fsync"]), Err("off: fsync (database). Turn it on")),
            ("two of them", off(&["full_page_writes", "synchronous_commit"]), Err("--allow-weak-tables")),
        ];
        for (why, says, want) in cases {
            let got = says.judge(false);
            match want {
                Ok(level) => assert_eq!(got.as_deref(), Ok(level), "{why}"),
                Err(part) => {
                    let got = got.expect_err(why);
                    assert!(got.contains(part), "{why}: {got}");
                }
            }
        }
        let weak = off(&["fsync"]).judge(true);
        assert_eq!(weak.as_deref(), Ok("WEAK, off: fsync (database)"));
        assert!(says(|says| says.version = 120_000).judge(true).is_err(), "the flag is for durability alone");
    }
}
