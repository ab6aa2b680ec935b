//! What `hilum doctor` finds at a PostgreSQL server, by a connection of its own that only reads.

use std::path::Path;
use std::time::Duration;

use hilum_core::{Clock, Timestamp};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Row, SimpleQueryMessage};

use super::{PostgresConfig, client_config, connect, ddl, parse, quote};
use crate::checkup::{self, Noted};
use crate::limits::CHECKUP_S_MAX;

const ABOUT: &str = "postgresql";
/// Connections that one more process of hilum takes, rows and audit log.
const CONNECTIONS_OF_A_PROCESS: i64 = 14;
/// Bytes that a standby may be behind, or a slot may keep, before somebody should look.
const BEHIND_BYTES: i64 = 1 << 30;
/// Hours for which a transaction may be open.
const OPEN_HOURS: i64 = 1;
/// The oldest version that this program works with, and the oldest that is still mended by those who make it.
const VERSIONS: (i32, i32) = (13, 14);

/// Looks at the server of `config` and at the schemas `rows` and `audit` of it.
pub async fn look(config: &PostgresConfig, audit: &str, clock: &Clock) -> Vec<Noted> {
    let asked = Box::pin(async {
        let client = connect(&client_config(config)?).await?;
        let mut found = Vec::new();
        for (what, noted) in [
            ("version", version(&client).await),
            ("settings", settings(&client).await),
            ("schema", schema(&client, &config.schema).await),
            ("sizes", sizes(&client, [&config.schema, audit]).await),
            ("volume", volume(&client, &config.url).await),
            ("clock", clocks(&client, clock).await),
            ("connections", connections(&client).await),
            ("replication", replication(&client).await),
            ("slots", slots(&client).await),
            ("archive", archive(&client).await),
        ] {
            // Never its message: that may quote values.
            found.extend(noted.unwrap_or_else(|error| {
                let code = error.code().map_or("no answer", tokio_postgres::error::SqlState::code);
                vec![Noted::look(
                    ABOUT,
                    format!("its {what} cannot be asked for ({code})"),
                    "let the user of tables.url read the catalog (GRANT pg_monitor)",
                )]
            }));
        }
        Ok::<_, super::TablesError>(found)
    });
    let why = match tokio::time::timeout(Duration::from_secs(CHECKUP_S_MAX), asked).await {
        Ok(Ok(found)) => return found,
        Ok(Err(why)) => why.to_string(),
        Err(_) => format!("does not answer in {CHECKUP_S_MAX} s"),
    };
    vec![Noted::mend(ABOUT, why, "see that the server runs and tables.url, its user and password are right")]
}

type Asked = Result<Vec<Noted>, tokio_postgres::Error>;

/// The first row of an answer.
async fn row(client: &Client, sql: &str) -> Result<Row, tokio_postgres::Error> {
    client.query_one(sql, &[]).await
}

async fn version(client: &Client) -> Asked {
    let row =
        row(client, "SELECT current_setting('server_version_num')::int4, current_setting('server_version')")
            .await?;
    let (number, name) = (row.try_get::<_, i32>(0)? / 10_000, row.try_get::<_, String>(1)?);
    Ok(vec![of_version(number, &name)])
}

fn of_version(number: i32, name: &str) -> Noted {
    let (oldest, mended) = VERSIONS;
    let found = format!("the server is version {name}");
    if number < oldest {
        Noted::mend(ABOUT, found, format!("upgrade it: {oldest} is the oldest that this program works with"))
    } else if number < mended {
        Noted::look(ABOUT, found, format!("upgrade it: versions before {mended} get no more mends"))
    } else {
        Noted::fine(ABOUT, found)
    }
}

/// What must not be off: an acknowledged commit rests on it.
const DURABLE: [&str; 3] = ["fsync", "full_page_writes", "synchronous_commit"];

async fn settings(client: &Client) -> Asked {
    let sql = "SELECT name, setting, source FROM pg_settings WHERE name = ANY($1)";
    let names =
        [&DURABLE[..], &["autovacuum", "data_checksums", "server_encoding", "default_transaction_read_only"]]
            .concat();
    let mut found = Vec::new();
    let mut durable = Vec::new();
    for row in client.query(sql, &[&names]).await? {
        let (name, value, source) =
            (row.try_get::<_, &str>(0)?, row.try_get::<_, &str>(1)?, row.try_get::<_, &str>(2)?);
        let said = format!("{name} is {value} (said by: {source})");
        match (name, value) {
            (name, "off") if DURABLE.contains(&name) => found.push(Noted::mend(
                ABOUT,
                format!("{said}: what is committed can be lost"),
                turn_on(name, source),
            )),
            (name, value) if DURABLE.contains(&name) => durable.push(format!("{name}={value}")),
            ("autovacuum", "off") => {
                found.push(Noted::look(ABOUT, said, "turn it on: the tables grow and slow down without it"));
            }
            ("data_checksums", "off") => found.push(Noted::look(
                ABOUT,
                format!("{said}: a damaged page is not noticed"),
                "stop the server and run pg_checksums --enable",
            )),
            ("server_encoding", encoding) if encoding != "UTF8" => {
                found.push(Noted::mend(ABOUT, said, "make the database anew with ENCODING 'UTF8'"));
            }
            ("default_transaction_read_only", "on") => {
                found.push(Noted::mend(ABOUT, said, turn_off(name, source)));
            }
            _ => {}
        }
    }
    let standby = row(client, "SELECT pg_is_in_recovery()").await?;
    if standby.try_get::<_, bool>(0)? {
        found.push(Noted::mend(
            ABOUT,
            "the server is a standby, and takes no commits",
            "let tables.url lead to the primary",
        ));
    }
    if durable.len() == DURABLE.len() {
        found.push(Noted::fine(ABOUT, format!("what is committed stays: {}", durable.join(", "))));
    }
    Ok(found)
}

/// How a setting is taken back, where it was said.
fn turn_on(name: &str, source: &str) -> String {
    take_back(name, source, "on")
}

fn turn_off(name: &str, source: &str) -> String {
    take_back(name, source, "off")
}

fn take_back(name: &str, source: &str, value: &str) -> String {
    match source {
        "database" => format!("ALTER DATABASE … RESET {name}; then restart hilum's processes"),
        "user" => format!("ALTER ROLE … RESET {name}; then restart hilum's processes"),
        "database user" => {
            format!("ALTER ROLE … IN DATABASE … RESET {name}; then restart hilum's processes")
        }
        "client" | "session" => format!("take {name} out of tables.url or PGOPTIONS"),
        _ => format!("ALTER SYSTEM SET {name} = {value}; SELECT pg_reload_conf()"),
    }
}

async fn schema(client: &Client, schema: &str) -> Asked {
    let table = format!("{}.hilum_version", quote(schema));
    let is_there = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?;
    if !is_there.try_get::<_, bool>(0)? {
        let found = format!("there is no schema `{schema}` of ours");
        let remedy = "the first start makes it; if there was one, tables.url or tables.schema leads elsewhere, or it is lost: \
             restore it";
        return Ok(vec![Noted::look(ABOUT, found, remedy)]);
    }
    let (stored, ours) = (row(client, &format!("SELECT version FROM {table}")).await?, ddl::VERSION);
    let stored = stored.try_get::<_, i64>(0)?;
    let found = format!("schema `{schema}` is of version {stored}, this program is for {ours}");
    Ok(vec![if stored > ours {
        Noted::mend(ABOUT, found, "start the newer program, or restore the backup from before it")
    } else {
        Noted::fine(ABOUT, found)
    }])
}

async fn sizes(client: &Client, schemas: [&str; 2]) -> Asked {
    let sql = "SELECT pg_database_size(current_database()), \
               coalesce((SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY($1) AND c.relkind = 'r'), 0)::int8";
    let row = client.query_one(sql, &[&&schemas[..]]).await?;
    let (all, ours) = (row.try_get::<_, i64>(0)? >> 20, row.try_get::<_, i64>(1)? >> 20);
    Ok(vec![Noted::fine(ABOUT, format!("the database has {all} MiB, of these {ours} MiB are ours"))])
}

/// The server's volume, where it is one of this machine and its place may be known. SQL has no word for free space.
async fn volume(client: &Client, url: &str) -> Asked {
    let is_here = parse(url).is_ok_and(|config| {
        config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => name == "localhost" || name.starts_with("127.") || name == "::1",
            Host::Unix(_) => true,
        })
    });
    let sql = "SELECT setting FROM pg_settings WHERE name = 'data_directory'";
    let place = client.query_opt(sql, &[]).await?;
    let place = place.map(|row| row.try_get::<_, String>(0)).transpose()?;
    let seen = place.filter(|_| is_here).and_then(|place| {
        let volume = rustix::fs::statvfs(Path::new(&place)).ok()?;
        let (free, size) = (volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize);
        Some(checkup::volume(ABOUT, "its data", free, size))
    });
    Ok(vec![seen.unwrap_or_else(|| {
        Noted::fine(ABOUT, "the free space of its volume cannot be asked from here: watch it there")
    })])
}

async fn clocks(client: &Client, clock: &Clock) -> Asked {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
    // The first answer takes longer: it is planned.
    row(client, sql).await?;
    let asked = clock.now();
    let theirs = row(client, sql).await?.try_get::<_, i64>(0)?;
    let answered = clock.now();
    Ok(vec![checkup::clocks(ABOUT, "the server", Timestamp::from_micros(theirs), asked, answered)])
}

async fn connections(client: &Client) -> Asked {
    let sql = "SELECT count(*), current_setting('max_connections')::int8 \
               - current_setting('superuser_reserved_connections')::int8, \
               coalesce(max(extract(epoch FROM now() - xact_start)) / 3600, 0)::int8 \
               FROM pg_stat_activity WHERE backend_type = 'client backend'";
    let row = row(client, sql).await?;
    let (used, max, open_h) =
        (row.try_get::<_, i64>(0)?, row.try_get::<_, i64>(1)?, row.try_get::<_, i64>(2)?);
    let found = format!("{used} of {max} connections are taken");
    let mut noted = vec![if max - used < CONNECTIONS_OF_A_PROCESS {
        let remedy = format!(
            "raise max_connections, or end what holds them: a process of hilum takes up to {CONNECTIONS_OF_A_PROCESS}"
        );
        Noted::look(ABOUT, found, remedy)
    } else {
        Noted::fine(ABOUT, found)
    }];
    if open_h >= OPEN_HOURS {
        noted.push(Noted::look(
            ABOUT,
            format!("a transaction has been open for {open_h} h: what is deleted meanwhile stays on disk"),
            "find it in pg_stat_activity (xact_start) and end it",
        ));
    }
    Ok(noted)
}

async fn replication(client: &Client) -> Asked {
    let waits = row(
        client,
        "SELECT current_setting('synchronous_standby_names'), \
         current_setting('synchronous_commit') NOT IN ('off', 'local')",
    )
    .await?;
    let (standbys, waits) = (waits.try_get::<_, String>(0)?, waits.try_get::<_, bool>(1)?);
    let sql = "SELECT coalesce(application_name, ''), state, sync_state, CASE WHEN pg_is_in_recovery() THEN NULL \
               ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::int8 END FROM pg_stat_replication";
    let rows = client.query(sql, &[]).await?;
    let mut noted = Vec::new();
    let (mut is_synced, mut is_hidden) = (false, false);
    for row in &rows {
        let name = row.try_get::<_, String>(0)?;
        let (Some(state), sync) = (row.try_get::<_, Option<&str>>(1)?, row.try_get::<_, Option<&str>>(2)?)
        else {
            is_hidden = true;
            continue;
        };
        let (sync, behind) = (sync.unwrap_or("async"), row.try_get::<_, Option<i64>>(3)?);
        is_synced |= matches!(sync, "sync" | "quorum") && state == "streaming";
        let behind_mib = behind.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
        let found = format!("standby `{name}`: {state}, {sync}, {behind_mib} behind");
        noted.push(if behind.is_some_and(|bytes| bytes > BEHIND_BYTES) || state != "streaming" {
            Noted::look(ABOUT, found, "see to the standby: a fail-over to it would lose what it lacks")
        } else {
            Noted::fine(ABOUT, found)
        });
    }
    if is_hidden {
        let remedy = "GRANT pg_monitor to the user of tables.url";
        noted.push(Noted::look(ABOUT, "how its standbys do is not shown to us", remedy));
    } else if !standbys.is_empty() && waits && !is_synced {
        noted.push(Noted::mend(
            ABOUT,
            format!(
                "every commit waits for a standby (synchronous_standby_names = {standbys}), and none is there"
            ),
            "bring the standby back, or name none",
        ));
    } else if rows.is_empty() {
        noted.push(Noted::fine(
            ABOUT,
            "no standby: its disk and its backup are all that there is of the rows",
        ));
    }
    Ok(noted)
}

async fn slots(client: &Client) -> Asked {
    let sql = "SELECT slot_name::text, CASE WHEN pg_is_in_recovery() THEN NULL \
               ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 END \
               FROM pg_replication_slots WHERE NOT active";
    let mut noted = Vec::new();
    for row in client.query(sql, &[]).await? {
        let (name, kept) = (row.try_get::<_, String>(0)?, row.try_get::<_, Option<i64>>(1)?);
        if kept.is_some_and(|bytes| bytes > BEHIND_BYTES) {
            noted.push(Noted::look(
                ABOUT,
                format!(
                    "slot `{name}` has no reader and keeps {} MiB of WAL",
                    kept.unwrap_or_default() >> 20
                ),
                format!(
                    "bring its reader back, or SELECT pg_drop_replication_slot('{name}'): it fills the volume"
                ),
            ));
        }
    }
    Ok(noted)
}

async fn archive(client: &Client) -> Asked {
    // As text: the simple protocol tells no types, and none are needed.
    let sql = "SELECT 1 FROM pg_stat_archiver WHERE current_setting('archive_mode') <> 'off' \
               AND last_failed_time > coalesce(last_archived_time, '-infinity')";
    let answers = client.simple_query(sql).await?;
    let fails = answers.iter().any(|answer| matches!(answer, SimpleQueryMessage::Row(_)));
    Ok(if fails {
        vec![Noted::look(
            ABOUT,
            "its WAL is not archived: the last try failed",
            "see archive_command and the server's log: what is not archived fills the volume, and the backup ends there",
        )]
    } else {
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkup::Grade;

    #[test]
    fn old_versions_are_said() {
        for (number, want) in [(12, Grade::Mend), (13, Grade::Look), (14, Grade::Fine), (18, Grade::Fine)] {
            assert_eq!(of_version(number, "x").grade, want, "{number}");
        }
    }
}
