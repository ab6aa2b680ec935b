//! Tokens by which Amazon's Kafka knows a role (AWS_MSK_IAM): a request to it, signed and never sent.

use std::fmt;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_msk_iam_sasl_signer as signer;
use aws_types::region::Region;
use hilum_core::Clock;

use super::Token;

/// The cluster's region, and who signs.
#[derive(Debug, Clone, Default)]
pub struct MskIam {
    /// As `ap-northeast-2`.
    pub region: String,
    /// The ARN of the role to take; empty: whoever the machine is by itself.
    pub role: String,
    /// Whose credentials sign; absent: those that Amazon's library finds by itself (environment, profile, web identity,
    /// container, instance).
    pub credentials: Option<SharedCredentialsProvider>,
}

impl fmt::Display for MskIam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AWS IAM in {} (log.token.region)", self.region)
    }
}

impl MskIam {
    pub(super) fn check(&self) -> Result<(), String> {
        let is_region = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.region.is_empty() || !self.region.bytes().all(is_region) {
            return Err("log.token.region: the source `aws_msk_iam` needs it (ap-northeast-2)".to_owned());
        }
        if !self.role.is_empty() && !self.role.starts_with("arn:") {
            return Err("log.token.role: take the role's ARN (arn:aws:iam::…:role/…)".to_owned());
        }
        Ok(())
    }

    pub(super) async fn fetch(&self, clock: &Clock) -> Result<Token, String> {
        let region = Region::new(self.region.clone());
        let signed = match &self.credentials {
            Some(credentials) => {
                signer::generate_auth_token_from_credentials_provider(region, credentials.clone()).await
            }
            None if self.role.is_empty() => signer::generate_auth_token(region).await,
            None => {
                signer::generate_auth_token_from_role(region, self.role.clone(), "hilum".to_owned()).await
            }
        };
        let (value, until_ms) = signed.map_err(|why| {
            format!("{self} gives no credentials: {}: is there a role for this machine?", whole(&why))
        })?;
        let now_ms = clock.now().as_micros() / 1_000;
        let life = Duration::from_millis(u64::try_from(until_ms - now_ms).unwrap_or_default());
        Ok(Token::new(value, "hilum".to_owned(), life, clock))
    }
}

/// An error and what is behind it.
fn whole(why: &dyn std::error::Error) -> String {
    let mut text = why.to_string();
    let mut next = why.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
