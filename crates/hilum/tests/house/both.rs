//! What both engines of tables must answer alike: one test, two servers.

use hilum_testkit::postgres::Postgres;
use tempfile::tempdir;

use crate::server::{Server, Start};

/// A configuration whose rows a PostgreSQL keeps, in a schema of its own.
pub fn kept_by(postgres: &Postgres) -> String {
    let (url, schema) = (postgres.url(), postgres.fresh_schema());
    format!("[tables]\nengine = \"postgres\"\nurl = \"{url}\"\nschema = \"{schema}\"\n")
}

/// Runs `test` against a fresh server on SQLite and against one on PostgreSQL.
pub fn on_both_engines(test: fn(&Server)) {
    for (engine, config) in [("sqlite", String::new()), ("postgres", kept_by(Postgres::shared()))] {
        eprintln!("--- on {engine}"); // which of the two it was, when it fails
        let folder = tempdir().unwrap();
        test(&Server::start(&folder, &Start { config: &config, ..Start::default() }));
    }
}
