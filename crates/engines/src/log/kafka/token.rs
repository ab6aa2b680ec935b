//! Tokens by which the brokers know us (SASL/OAUTHBEARER): where they come from, and that there is always one.
//!
//! librdkafka asks for a token in the thread that delivers acknowledgments, and each client asks by itself. So one task
//! fetches them ahead of time for all clients of a log, and whoever is asked only hands out what there is.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use hilum_core::{Clock, Timestamp};
use rdkafka::client::OAuthToken;
use tokio::sync::Notify;

use super::{LogError, lock};
use crate::limits;

#[cfg(feature = "msk-iam")]
mod msk_iam;
mod oauth;

#[cfg(feature = "msk-iam")]
pub use msk_iam::MskIam;
pub use oauth::Oauth;

/// Where tokens come from.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// An issuer of OAuth 2.0 tokens, asked as a client with a secret (RFC 6749, 4.4).
    Oauth(Oauth),
    /// Amazon's Kafka: a signed request that proves a role.
    #[cfg(feature = "msk-iam")]
    MskIam(MskIam),
}

impl TokenSource {
    /// What is wrong with it as it is configured, the key named.
    ///
    /// # Errors
    /// `key: why`, without a secret.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Oauth(oauth) => oauth.check(),
            #[cfg(feature = "msk-iam")]
            Self::MskIam(role) => role.check(),
        }
    }

    async fn fetch(&self, clock: &Clock) -> Result<Token, String> {
        let wait = Duration::from_secs(limits::KAFKA_TOKEN_S_MAX);
        let fetched = async {
            match self {
                Self::Oauth(oauth) => oauth.fetch(clock).await,
                #[cfg(feature = "msk-iam")]
                Self::MskIam(role) => role.fetch(clock).await,
            }
        };
        let late = || Err(format!("{self} gives no token within {} s", wait.as_secs()));
        let token = tokio::time::timeout(wait, fetched).await.unwrap_or_else(|_| late())?;
        // Such a token would be asked for again and again.
        if token.life < Duration::from_secs(limits::KAFKA_TOKEN_LIFE_S_MIN) {
            return Err(format!(
                "{self} gives tokens that live for {} s; they must live for {} s at least (or are its clock and ours \
                 apart?)",
                token.life.as_secs(),
                limits::KAFKA_TOKEN_LIFE_S_MIN
            ));
        }
        Ok(token)
    }
}

/// Names the source, as an error does.
impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oauth(oauth) => write!(f, "{oauth}"),
            #[cfg(feature = "msk-iam")]
            Self::MskIam(role) => write!(f, "{role}"),
        }
    }
}

/// A token. It opens the log: it is never shown.
struct Token {
    value: String,
    principal: String,
    /// From now on.
    life: Duration,
    until: Timestamp,
}

impl Token {
    fn new(value: String, principal: String, life: Duration, clock: &Clock) -> Self {
        let micros = i64::try_from(life.as_micros()).unwrap_or(i64::MAX);
        Self { value, principal, life, until: clock.now().plus_micros(micros) }
    }
}

/// The tokens of one log, renewed for as long as somebody holds this.
pub(super) struct Tokens {
    source: TokenSource,
    clock: Clock,
    state: Mutex<State>,
    /// Somebody found the token run out before its time (a clock was set), or nobody needs one any more.
    asked: Arc<Notify>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// Why the last attempt gave none.
    failed: Option<String>,
}

impl Tokens {
    /// Fetches the first token, and goes on renewing it.
    ///
    /// # Errors
    /// [`LogError::Engine`] names the source and what it says.
    pub(super) async fn start(source: TokenSource, clock: Clock) -> Result<Arc<Self>, LogError> {
        source.check().map_err(LogError::Engine)?;
        let first = source.fetch(&clock).await.map_err(LogError::Engine)?;
        let life = first.life;
        let state = Mutex::new(State { token: Some(first), failed: None });
        let asked = Arc::new(Notify::new());
        let tokens = Arc::new(Self { source, clock, state, asked: Arc::clone(&asked) });
        tokio::spawn(renew(Arc::downgrade(&tokens), asked, life));
        Ok(tokens)
    }

    /// The token that holds now.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn current(&self) -> Result<OAuthToken, String> {
        let state = lock(&self.state);
        match &state.token {
            Some(token) if token.until > self.clock.now() => Ok(OAuthToken {
                token: token.value.clone(),
                principal_name: token.principal.clone(),
                lifetime_ms: token.until.as_micros() / 1_000,
            }),
            _ => {
                self.asked.notify_one();
                let failed = state.failed.clone();
                Err(failed.unwrap_or_else(|| format!("the token of {} has run out", self.source)))
            }
        }
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.asked.notify_one();
    }
}

/// Renews well before the end of each token's life: librdkafka asks at four fifths of it.
async fn renew(tokens: Weak<Tokens>, asked: Arc<Notify>, first: Duration) {
    let mut wait = first / 2;
    let mut failures = 0;
    loop {
        tokio::select! {
            () = asked.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        let Some(held) = tokens.upgrade() else { return };
        match held.source.fetch(&held.clock).await {
            Ok(token) => {
                wait = token.life / 2;
                if failures > 0 {
                    tracing::info!("tokens for the brokers are given again");
                }
                failures = 0;
                *lock(&held.state) = State { token: Some(token), failed: None };
            }
            Err(why) => {
                if failures == 0 {
                    tracing::error!(why, "no new token for the brokers: tried again until there is one");
                }
                failures += 1;
                lock(&held.state).failed = Some(why);
                wait = Duration::from_secs(limits::KAFKA_TOKEN_RETRY_S.min(failures));
            }
        }
    }
}

#[cfg(test)]
mod tests;
