//! Tokens of an OAuth 2.0 issuer (Keycloak, Entra ID, Okta, …), by client id and secret.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hilum_core::Clock;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, Response, Url};
use serde::Deserialize;

use super::Token;
use crate::limits;

/// Where a client asks for its token, and how it proves who it is.
#[derive(Clone, Default)]
pub struct Oauth {
    /// The token endpoint.
    pub url: String,
    /// Who we are.
    pub client_id: String,
    /// What proves it.
    pub client_secret: String,
    /// What is asked for; empty: what the issuer gives by itself.
    pub scope: String,
    /// Whom to trust when TLS asks, PEM; absent: whom the system trusts.
    pub ca_file: Option<PathBuf>,
}

/// Prints no secret.
impl fmt::Debug for Oauth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oauth").field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Display for Oauth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (log.token.url)", self.url)
    }
}

/// RFC 6749, 5.1.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<u64>,
}

/// RFC 6749, 5.2.
#[derive(Deserialize)]
struct Refused {
    error: String,
}

impl Oauth {
    pub(super) fn check(&self) -> Result<(), String> {
        let url = Url::parse(&self.url).map_err(|why| format!("log.token.url: {why}"))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_here =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if url.scheme() != "https" && !(url.scheme() == "http" && is_here) {
            return Err("log.token.url: take https: the secret and the tokens would cross the net in clear"
                .to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "log.token.url: no name or password in it: log.token.client_id and client_secret".to_owned()
            );
        }
        for (key, value) in [("client_id", &self.client_id), ("client_secret", &self.client_secret)] {
            if value.is_empty() {
                return Err(format!("log.token.{key}: the source `oauth` needs it"));
            }
        }
        Ok(())
    }

    fn client(&self) -> Result<Client, String> {
        let mut builder = Client::builder()
            .connect_timeout(Duration::from_secs(limits::ENGINE_CONNECT_S_MAX))
            // A secret goes where the configuration says and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(path) = &self.ca_file {
            let pem =
                std::fs::read(path).map_err(|why| format!("log.token.ca_file {}: {why}", path.display()))?;
            let certificates = Certificate::from_pem_bundle(&pem)
                .map_err(|_| format!("log.token.ca_file {}: no certificate in PEM", path.display()))?;
            builder = builder.tls_certs_only(certificates);
        }
        builder.build().map_err(|why| format!("{self}: {}", whole(&why)))
    }

    pub(super) async fn fetch(&self, clock: &Clock) -> Result<Token, String> {
        let request = self.client()?.post(&self.url).header(AUTHORIZATION, self.proof()?);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(self.form());
        let answer =
            request.send().await.map_err(|why| format!("{self} cannot be asked: {}", whole(&why)))?;
        let status = answer.status();
        let body = bounded(answer).await.map_err(|why| format!("{self}: {why}"))?;
        if !status.is_success() {
            let said =
                serde_json::from_slice::<Refused>(&body).map(|refused| refused.error).unwrap_or_default();
            // A word of the standard's list, and no more of what came.
            let is_word = |b: u8| b.is_ascii_lowercase() || b == b'_';
            let word = if said.len() <= 40 && said.bytes().all(is_word) { said.as_str() } else { "" };
            return Err(format!(
                "{self} gives no token to the client `{}`: HTTP {} {word}: are log.token.client_id and \
                 client_secret right, and may it have tokens for itself?",
                self.client_id,
                status.as_u16()
            ));
        }
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| {
            format!("{self} answers with something else than a token: is it a token endpoint?")
        })?;
        let life = Duration::from_secs(granted.expires_in.unwrap_or(limits::KAFKA_TOKEN_LIFE_S));
        Ok(Token::new(granted.access_token, self.client_id.clone(), life, clock))
    }

    fn form(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !self.scope.is_empty() {
            form.append_pair("scope", &self.scope);
        }
        form.finish()
    }

    /// RFC 6749, 2.3.1: both are encoded as in a form first.
    fn proof(&self) -> Result<HeaderValue, String> {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encoded(&self.client_id), encoded(&self.client_secret));
        let text = format!("Basic {}", BASE64_STANDARD.encode(pair));
        let mut header =
            HeaderValue::from_str(&text).map_err(|_| format!("{self}: the secret cannot be sent"))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

async fn bounded(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|why| whole(&why))? {
        body.extend_from_slice(&part);
        if body.len() > limits::KAFKA_TOKEN_BYTES_MAX {
            return Err(format!("its answer has more than {} bytes", limits::KAFKA_TOKEN_BYTES_MAX));
        }
    }
    Ok(body)
}

/// An error and what is behind it, without the URL, which is named already.
fn whole(why: &reqwest::Error) -> String {
    let mut texts = Vec::new();
    let mut next: Option<&dyn std::error::Error> = Some(why);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    // The first says only that a request was sent.
    texts.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(&texts).join(": ")
}
