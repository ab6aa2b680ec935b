//! Errors of the server: the step and PostgreSQL's code, what that means, and the way out. Never its message: that may
//! quote values.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use crate::tables::TablesError;

/// What a code means, where somebody must do something about it.
fn way_out(code: &SqlState) -> Option<&'static str> {
    Some(match code.code() {
        "28P01" | "28000" => {
            "user or password is refused: tables.url must hold what the server knows, and its pg_hba.conf must let this \
             machine in"
        }
        // Of what our sessions ask for, 12 does not know `enable_incremental_sort`.
        "42704" => {
            "the server does not know a setting: it is older than PostgreSQL 13, which hilum needs, or `options` in tables.url \
             names one that it has not"
        }
        "3D000" => "there is no such database: make it, or mend tables.url",
        "42501" => "the role lacks a right: it must own the schema, or may make one in the database",
        "53300" => "the server has no connection left: raise its max_connections",
        "53100" => "the server's disk is full: make room",
        "57P03" => "the server is starting, or shutting down",
        "25006" => "the server is read-only: tables.url must lead to the primary",
        _ => return None,
    })
}

/// The step before anything is asked.
pub(super) const CONNECT: &str = "connect";

/// An engine error that names the step and PostgreSQL's code.
pub(super) fn engine(step: &str, error: &tokio_postgres::Error) -> TablesError {
    let Some(code) = error.code() else {
        let io = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
        let why = match io {
            _ if error.is_closed() => "the connection is closed".to_owned(),
            // Nothing was sent yet that could be in it.
            Some(io) if step == CONNECT => format!("{io}: see that the server runs and tables.url is right"),
            None if step == CONNECT => format!("{error}: see that tables.url is right"),
            Some(io) => format!("the connection failed: {}", io.kind()),
            None => "the connection failed".to_owned(),
        };
        return TablesError::Engine(format!("postgresql, {step}: {why}"));
    };
    of_code(step, code)
}

fn of_code(step: &str, code: &SqlState) -> TablesError {
    if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code) {
        return TablesError::Conflict(format!("postgresql, {step}: {}", code.code()));
    }
    // Whatever was opened had its tables.
    if [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME].contains(code) {
        return TablesError::Gone { what: format!("{step}, sqlstate {}", code.code()) };
    }
    let way_out = way_out(code).map(|way_out| format!(": {way_out}")).unwrap_or_default();
    TablesError::Engine(format!("postgresql, {step}: sqlstate {}{way_out}", code.code()))
}

pub(super) fn pool_error(error: &PoolError) -> TablesError {
    match error {
        PoolError::Backend(error) => engine(CONNECT, error),
        PoolError::Timeout(_) => {
            TablesError::Engine("postgresql: no connection became free in time".to_owned())
        }
        PoolError::Closed => TablesError::Engine("postgresql: the tables are closed".to_owned()),
        PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            TablesError::Engine("postgresql: no connection".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use hilum_core::Kind;

    use super::*;

    #[test]
    fn a_code_is_said_with_what_to_do() {
        let cases = [
            ("wrong password", "28P01", "tables.url must hold"),
            ("no such database", "3D000", "make it"),
            ("not the owner", "42501", "must own the schema"),
            ("a standby", "25006", "lead to the primary"),
            ("disk full", "53100", "make room"),
            ("no such table", "42P01", "rebuild chart"),
            ("no such schema", "3F000", "rebuild chart"),
            ("a code of no special meaning", "XX000", "sqlstate XX000"),
        ];
        for (why, code, want) in cases {
            let error = of_code("get", &SqlState::from_code(code));
            assert!(error.to_string().contains(want) && error.to_string().contains(code), "{why}: {error}");
            assert_eq!(error.kind(), Kind::Transient, "{why}");
        }
        let lost = of_code("get", &SqlState::T_R_DEADLOCK_DETECTED);
        assert_eq!(lost.kind(), Kind::Conflict);
    }
}
