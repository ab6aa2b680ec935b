//! Hands an OAUTHBEARER token to a client of Kafka.
//!
//! Producers and consumers ask for their tokens by [`ClientContext::generate_oauth_token`]. A client for administration
//! never does: the crate `rdkafka` does not serve the queue in which librdkafka asks. Without a token it connects to
//! nobody, so it is given one here. The house forbids `unsafe`; this crate has one call of it and nothing else
//! (`docs/adr/0014-who-we-are-to-kafka.md`).

use std::ffi::{CStr, CString, c_char};

use rdkafka::bindings::{rd_kafka_oauthbearer_set_token, rd_kafka_resp_err_t};
use rdkafka::client::{Client, ClientContext, OAuthToken};

/// Bytes of what librdkafka says when it does not take a token.
const SAID_BYTES_MAX: usize = 512;

/// Gives `token` to `client`, which connects by it from now on. It must not have run out, and the client's
/// `sasl.mechanism` must be `OAUTHBEARER`.
///
/// # Errors
/// What librdkafka finds wrong with it; the token itself is not in it.
pub fn set_token<C: ClientContext>(client: &Client<C>, token: OAuthToken) -> Result<(), String> {
    let has_nul = |_| "a token or its principal has a NUL".to_owned();
    let value = CString::new(token.token).map_err(has_nul)?;
    let principal = CString::new(token.principal_name).map_err(has_nul)?;
    let mut said: [c_char; SAID_BYTES_MAX] = [0; SAID_BYTES_MAX];
    // SAFETY: the handle is `client`'s, which is borrowed for the call, and the call may be made from any thread. Both
    // texts end with a NUL and are copied before it returns. There are no extensions (null and 0). `said` is written to
    // for at most the length that is given, and ends with a NUL afterwards.
    #[allow(unsafe_code, reason = "rdkafka has no safe call for it: see the crate's first lines")]
    let code = unsafe {
        rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            said.as_mut_ptr(),
            said.len(),
        )
    };
    if code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let said: Vec<u8> = said.iter().map(|&c| c.to_ne_bytes()[0]).collect();
    let text = CStr::from_bytes_until_nul(&said).map(CStr::to_string_lossy);
    Err(text.map_or_else(|_| format!("code {}", code as i32), std::borrow::Cow::into_owned))
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::admin::AdminClient;
    use rdkafka::client::DefaultClientContext;

    use super::*;

    fn token(value: &str, lifetime_ms: i64) -> OAuthToken {
        OAuthToken { token: value.to_owned(), principal_name: "hilum".to_owned(), lifetime_ms }
    }

    #[test]
    fn a_token_is_taken_by_whom_it_is_for_and_named_when_it_is_not() {
        let client = |mechanism: &str| -> AdminClient<DefaultClientContext> {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", "127.0.0.1:9").set("security.protocol", "SASL_PLAINTEXT");
            config.set("sasl.mechanism", mechanism).set("sasl.username", "a").set("sasl.password", "b");
            config.create().expect("a client")
        };
        let bearer = client("OAUTHBEARER");
        assert_eq!(set_token(bearer.inner(), token("geheim", i64::MAX / 2_000)), Ok(()));
        let cases = [
            ("it has run out", &bearer, token("geheim", 1), "unexpired"),
            ("a NUL", &bearer, token("geh\0eim", i64::MAX / 2_000), "NUL"),
            ("another mechanism", &client("PLAIN"), token("geheim", i64::MAX / 2_000), "OAUTHBEARER"),
        ];
        for (why, client, token, want) in cases {
            let said = set_token(client.inner(), token).expect_err(why);
            assert!(said.contains(want) && !said.contains("geheim"), "{why}: {said}");
        }
    }
}
