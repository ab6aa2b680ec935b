//! `[log]`: where what comes in is kept, and who we are there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::bail;
#[cfg(feature = "msk-iam")]
use hilum_engines::log::kafka::MskIam;
use hilum_engines::log::kafka::{Durability, KafkaConfig, Oauth, TokenSource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::telemetry::HEADERS;

/// Which engine keeps what comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogEngine {
    /// One file in the data folder.
    Embedded,
    /// Topics of a Kafka cluster.
    Kafka,
}

/// What the log's cluster must promise: see [`hilum_engines::log::kafka::Durability`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogDurability {
    /// On two brokers before it is acknowledged.
    Replicated,
    /// On one broker's disk before it is acknowledged.
    Fsync,
}

/// `[log]`
#[derive(Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// The engine.
    pub engine: LogEngine,
    /// Where it is, for `kafka`.
    pub brokers: String,
    /// What the names of its topics begin with.
    pub prefix: String,
    /// What the cluster must promise.
    pub durability: LogDurability,
    /// Partitions of each stream, when the topics are made.
    pub partitions: u16,
    /// Copies of each partition, when the topics are made; 0: as the cluster does by itself.
    pub copies: u16,
    /// Whether the outbox is published as the change feed.
    pub relay: bool,
    /// Further settings of the client.
    pub client: BTreeMap<String, String>,
    /// Where tokens come from by which the brokers know us.
    pub token: LogToken,
}

/// `[log.token]`
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogToken {
    /// What gives them.
    pub source: LogTokenSource,
    /// The token endpoint, for `oauth`.
    pub url: String,
    /// Who we are to it.
    pub client_id: String,
    /// What proves it.
    pub client_secret: String,
    /// What is asked for.
    pub scope: String,
    /// Whom to trust when TLS asks; empty: whom the system trusts.
    pub ca_file: String,
    /// The cluster's region, for `aws_msk_iam`.
    pub region: String,
    /// The ARN of the role to take.
    pub role: String,
}

/// What gives tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogTokenSource {
    /// Nothing: the brokers know us otherwise.
    #[default]
    None,
    /// An issuer of OAuth 2.0 tokens.
    Oauth,
    /// AWS IAM.
    AwsMskIam,
}

/// Prints no secret, and no setting of the client: which of them are secrets is librdkafka's business.
impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("engine", &self.engine)
            .field("brokers", &self.brokers)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            engine: LogEngine::Embedded,
            brokers: String::new(),
            prefix: "hilum".to_owned(),
            durability: LogDurability::Replicated,
            partitions: hilum_engines::limits::LOG_PARTITIONS,
            copies: 0,
            relay: false,
            client: BTreeMap::new(),
            token: LogToken::default(),
        }
    }
}

/// What begins the names of settings that may be secrets, in the configuration and in `secrets/`.
const CLIENT: &str = "log.client.";
const CLIENT_SECRET: &str = "log.token.client_secret";

impl Log {
    /// Where Kafka is and what it must promise. With `allow_any`, whatever it promises.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn kafka(&self, allow_any: bool) -> anyhow::Result<KafkaConfig> {
        Ok(KafkaConfig {
            partitions: self.partitions,
            copies: Some(self.copies).filter(|&copies| copies > 0),
            durability: match self.durability {
                _ if allow_any => Durability::Any,
                LogDurability::Replicated => Durability::Replicated,
                LogDurability::Fsync => Durability::Fsync,
            },
            client: self.client.clone(),
            token: self.token.source()?,
            ..KafkaConfig::new(&self.brokers, &self.prefix)
        })
    }

    /// With what stands in files of its own: `name` is the key.
    ///
    /// # Errors
    /// When there is no such key, or the configuration says it too.
    pub fn with_secrets(mut self, secrets: Vec<(String, String)>) -> anyhow::Result<Self> {
        for (name, value) in secrets {
            let is_said = match name.strip_prefix(CLIENT) {
                Some(setting) => self.client.insert(setting.to_owned(), value).is_some(),
                None if name == CLIENT_SECRET => {
                    !std::mem::replace(&mut self.token.client_secret, value).is_empty()
                }
                // Read where traces are.
                None if name.starts_with(HEADERS) => false,
                None => bail!("secrets/{name}: there is {CLIENT}NAME, {CLIENT_SECRET} and {HEADERS}NAME"),
            };
            if is_said {
                bail!("secrets/{name}: {name} is said by the configuration too: leave one of them out");
            }
        }
        Ok(self)
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        if !(1..=hilum_engines::limits::LOG_PARTITIONS_MAX).contains(&self.partitions) {
            bail!("log.partitions: take 1 to {}", hilum_engines::limits::LOG_PARTITIONS_MAX);
        }
        if self.engine != LogEngine::Kafka {
            if self.relay {
                bail!("log.relay: the change feed is a topic: it needs log.engine = \"kafka\"");
            }
            return Ok(());
        }
        if self.brokers.is_empty() {
            bail!(
                "log.brokers: engine `kafka` needs them (kafka-1:9092,kafka-2:9092, or HILUM_LOG__BROKERS)"
            );
        }
        let client = self.client.clone();
        KafkaConfig { client, ..KafkaConfig::new(&*self.brokers, &*self.prefix) }
            .check()
            .map_err(|why| anyhow::anyhow!("log: {why}"))?;
        let mut token = self.token.clone();
        if token.client_secret.is_empty() {
            // It may stand in `secrets/`, which is read with the data folder.
            "-".clone_into(&mut token.client_secret);
        }
        match token.source()? {
            Some(source) => source.check().map_err(|why| anyhow::anyhow!(why)),
            None => Ok(()),
        }
    }
}

impl LogToken {
    fn source(&self) -> anyhow::Result<Option<TokenSource>> {
        match self.source {
            LogTokenSource::None => Ok(None),
            LogTokenSource::Oauth => Ok(Some(TokenSource::Oauth(Oauth {
                url: self.url.clone(),
                client_id: self.client_id.clone(),
                client_secret: self.client_secret.clone(),
                scope: self.scope.clone(),
                ca_file: Some(PathBuf::from(&self.ca_file)).filter(|path| !path.as_os_str().is_empty()),
            }))),
            LogTokenSource::AwsMskIam => msk_iam(self).map(Some),
        }
    }
}

#[cfg(feature = "msk-iam")]
#[allow(clippy::unnecessary_wraps)] // as without the feature
fn msk_iam(token: &LogToken) -> anyhow::Result<TokenSource> {
    let MskIam { credentials, .. } = MskIam::default();
    Ok(TokenSource::MskIam(MskIam { region: token.region.clone(), role: token.role.clone(), credentials }))
}

#[cfg(not(feature = "msk-iam"))]
fn msk_iam(_: &LogToken) -> anyhow::Result<TokenSource> {
    bail!("log.token.source: this program was built without `aws_msk_iam` (its feature `msk-iam`)")
}

/// Masks what may be a secret.
pub(super) fn mask(tree: &mut Value) {
    let masked = || Value::String("***".to_owned());
    if let Some(Value::Object(client)) = tree.pointer_mut("/log/client") {
        // Which of librdkafka's settings are secrets is its business: the names are enough.
        client.values_mut().for_each(|value| *value = masked());
    }
    if let Some(secret) = tree.pointer_mut("/log/token/client_secret")
        && secret.as_str().is_some_and(|secret| !secret.is_empty())
    {
        *secret = masked();
    }
}
