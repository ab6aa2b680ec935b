//! The JSON twins, read from outside as any client would.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// A client with a key.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
    key: String,
}

impl Client {
    /// A client of the server at `http`.
    pub fn new(http: SocketAddr, key: &str) -> Self {
        let agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(30))).build().into();
        Self { agent, base: format!("http://{http}"), key: key.to_owned() }
    }

    /// The JSON at `path`.
    ///
    /// # Errors
    /// No answer, another status than 200, or no JSON.
    pub fn get(&self, path: &str) -> Result<serde_json::Value> {
        let mut answer = self
            .agent
            .get(format!("{}{path}", self.base))
            .header("X-API-Key", &self.key)
            .call()
            .with_context(|| format!("GET {path}"))?;
        let text = answer
            .body_mut()
            .with_config()
            .limit(256 << 20)
            .read_to_string()
            .with_context(|| format!("GET {path}"))?;
        serde_json::from_str(&text).with_context(|| format!("GET {path} gave no JSON"))
    }

    /// How many records the chart is behind the log.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn lag(&self) -> Result<u64> {
        // No message has this control id: the answer carries the state of the chart and costs the server little, so
        // that asking is not what is measured.
        let answer = self.get("/api/messages?control_id=-none-")?;
        answer["lag"].as_u64().context("/api/messages carries no lag")
    }
}
