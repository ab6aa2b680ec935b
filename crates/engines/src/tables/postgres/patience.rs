//! How long a server is waited for. One that is there and says nothing (its machine hangs, its disk stands still) keeps
//! connections alive as far as TCP goes: each question to it has an end of its own.

use std::time::Duration;

use crate::limits;
use crate::tables::TablesError;

/// How long a server is waited for; in a server of ours as `limits` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the answer to a question.
    pub answer: Duration,
    /// For a commit, and for what removes many rows.
    pub commit: Duration,
    /// For what became of a commit whose connection broke.
    pub ask: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(limits::ENGINE_SILENCE_S_MAX),
            commit: Duration::from_secs(limits::COMMIT_S_MAX),
            ask: Duration::from_secs(limits::COMMIT_ASK_S_MAX),
        }
    }
}

/// Waits for `asked` no longer than `limit`. A connection on which there was no answer is of no more use: the caller
/// drops it.
///
/// # Errors
/// [`TablesError::Engine`] that names `step`.
pub(super) async fn within<T>(
    step: &str,
    limit: Duration,
    asked: impl Future<Output = Result<T, TablesError>>,
) -> Result<T, TablesError> {
    match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(silent(step, limit)),
    }
}

/// What is said of a server that did not answer.
pub(super) fn silent(step: &str, limit: Duration) -> TablesError {
    TablesError::Engine(format!("postgresql, {step}: no answer within {limit:?}"))
}

/// For how long a connection is waited for: each host that the url names has its time, and to take the connection is not
/// enough.
pub(super) fn to_connect(client: &tokio_postgres::Config) -> Duration {
    let each = client.get_connect_timeout().copied();
    let hosts = client.get_hosts().len().max(client.get_hostaddrs().len()).max(1);
    each.unwrap_or(Duration::from_secs(limits::ENGINE_CONNECT_S_MAX)) * u32::try_from(hosts).unwrap_or(1)
}
