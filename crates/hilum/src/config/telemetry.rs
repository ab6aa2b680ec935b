//! `[telemetry]`: where traces go, and which.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::bail;
use hilum_core::trace::Sampling;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `[telemetry]`
#[derive(Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// The collector; empty: nothing is told.
    pub otlp: String,
    /// The part of the messages whose traces are told.
    pub sample: f64,
    /// Traces that begin in a second at the most.
    pub traces_per_s_max: u32,
    /// Headers of each request to the collector.
    pub headers: BTreeMap<String, String>,
    /// Whom to trust when TLS asks; empty: whom the system trusts.
    pub ca_file: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp: String::new(),
            sample: 0.01,
            traces_per_s_max: 100,
            headers: BTreeMap::new(),
            ca_file: String::new(),
        }
    }
}

/// Prints no header: a key to the collector may be among them.
impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("otlp", &self.otlp).finish_non_exhaustive()
    }
}

/// What begins the names of headers that stand in `secrets/`.
pub(super) const HEADERS: &str = "telemetry.headers.";

impl Telemetry {
    /// Whether anything is told.
    pub const fn is_on(&self) -> bool {
        !self.otlp.is_empty()
    }

    /// Which traces are told.
    pub const fn sampling(&self) -> Sampling {
        Sampling { ratio: self.sample, per_second_max: self.traces_per_s_max }
    }

    /// The PEM of whom to trust.
    pub fn ca_file(&self) -> Option<PathBuf> {
        Some(PathBuf::from(&self.ca_file)).filter(|path| !path.as_os_str().is_empty())
    }

    /// Where spans are posted to.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn url(&self) -> anyhow::Result<Url> {
        let Ok(mut url) = Url::parse(&self.otlp) else {
            bail!("telemetry.otlp: `{}` is no address: write http://127.0.0.1:4318", self.otlp)
        };
        if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
            bail!("telemetry.otlp: write http://HOST:4318 or https://HOST:4318 (OTLP over HTTP)");
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            bail!("telemetry.otlp: no name, password or `?` in it: a key goes into telemetry.headers");
        }
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }

    /// With headers that stand in files of their own.
    ///
    /// # Errors
    /// When the configuration says one of them too.
    pub fn with_secrets(mut self, secrets: Vec<(String, String)>) -> anyhow::Result<Self> {
        for (name, value) in secrets {
            let Some(header) = name.strip_prefix(HEADERS) else { continue };
            if self.headers.insert(header.to_owned(), value).is_some() {
                bail!("secrets/{name}: {name} is said by the configuration too: leave one of them out");
            }
        }
        self.check()?;
        Ok(self)
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        if !(0.0..=1.0).contains(&self.sample) {
            bail!("telemetry.sample: take 0 (only what is set aside or stands still) to 1 (every message)");
        }
        if self.traces_per_s_max == 0 {
            bail!("telemetry.traces_per_s_max: at least 1; leave telemetry.otlp away to tell nothing");
        }
        for (name, value) in &self.headers {
            if HeaderName::try_from(name.as_str()).is_err() || HeaderValue::try_from(value.as_str()).is_err()
            {
                bail!("telemetry.headers.{name}: that is no header of HTTP");
            }
        }
        if !self.is_on() {
            return Ok(());
        }
        let url = self.url()?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if url.scheme() == "http" && !is_here && !self.headers.is_empty() {
            bail!("telemetry.otlp: take https: telemetry.headers would cross the net in clear");
        }
        Ok(())
    }
}

/// Masks what may be a secret.
pub(super) fn mask(tree: &mut Value) {
    if let Some(Value::Object(headers)) = tree.pointer_mut("/telemetry/headers") {
        headers.values_mut().for_each(|value| *value = Value::String("***".to_owned()));
    }
}
