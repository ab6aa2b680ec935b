//! What is behind an error of Kafka's, where it can be told, and the way out.

use std::fmt;

use rdkafka::error::RDKafkaErrorCode;

/// Something that does not pass by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    reason: String,
    pub(super) way_out: &'static str,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.way_out)
    }
}

/// What a client's own error means, if somebody must do something about it. `reason` is librdkafka's text: it names the
/// broker, and no secret.
pub(super) fn of(code: RDKafkaErrorCode, reason: &str) -> Option<Trouble> {
    let way_out = match code {
        // The issuer's trouble, which it says itself: it passes when the issuer is back.
        RDKafkaErrorCode::Authentication if reason.contains("Failed to acquire") => return None,
        RDKafkaErrorCode::Authentication
            if reason.contains("OAUTHBEARER") || reason.contains("invalid_token") =>
        {
            "is the token meant for these brokers (issuer, audience), and does their clock agree with the issuer's? See \
             log.token"
        }
        RDKafkaErrorCode::Authentication => {
            "log.client's sasl.mechanism, sasl.username and sasl.password must be those that the brokers know"
        }
        RDKafkaErrorCode::SSL if reason.contains("certificate verify failed") => {
            "log.client's ssl.ca.location must name the certificate of whoever signed the brokers', and \
             log.brokers the names that theirs are for"
        }
        _ if reason.contains("connecting to a PLAINTEXT broker listener?") => {
            "that listener speaks no TLS: another port in log.brokers, or log.client's security.protocol without SSL"
        }
        RDKafkaErrorCode::SSL => "log.client's security.protocol and ssl.* must fit the brokers' listener",
        // A listener that wants TLS hangs up on whoever comes without; so did brokers of long ago. (librdkafka 2.12 has a
        // hint for this, and loses it.)
        _ if reason.contains("Disconnected") && reason.contains("in state APIVERSION_QUERY") => {
            "the broker hangs up at the first question: if that listener wants TLS, log.client's security.protocol must \
             be SSL or SASL_SSL; and hilum needs Kafka 2.4 or later"
        }
        RDKafkaErrorCode::UnsupportedFeature => {
            "the brokers are too old for hilum: it needs Kafka 2.4 or later"
        }
        RDKafkaErrorCode::Resolve => {
            "log.brokers, and the addresses that the brokers give, must have names that are known here"
        }
        _ => return None,
    };
    Some(Trouble { reason: reason.to_owned(), way_out })
}

/// Whether a broker knows who asks, and does not let them.
pub(super) fn is_denied(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
    )
}

/// Which right is missing, when a broker does not let us: `of_topic`, or `of_group` when it is the consumers' group that
/// may not be seen.
pub(super) fn denied(code: Option<RDKafkaErrorCode>, of_topic: &str, of_group: &str) -> Option<String> {
    let code = code.filter(|code| is_denied(*code))?;
    let missing = if code == RDKafkaErrorCode::GroupAuthorizationFailed { of_group } else { of_topic };
    Some(format!("this user has not the right {missing} (docs/OPERATIONS.md, who may do what)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_no_trouble() {
        let cases = [
            (
                "wrong password",
                RDKafkaErrorCode::Authentication,
                "k:1/b: SASL authentication error",
                Some("sasl.password"),
            ),
            (
                "wrong token",
                RDKafkaErrorCode::Authentication,
                "error: {\"status\":\"invalid_token\"}",
                Some("log.token"),
            ),
            (
                "no token",
                RDKafkaErrorCode::Authentication,
                "Failed to acquire SASL OAUTHBEARER token: HTTP 503",
                None,
            ),
            ("unknown signer", RDKafkaErrorCode::SSL, "certificate verify failed", Some("ssl.ca.location")),
            (
                "TLS to a plain port",
                RDKafkaErrorCode::SSL,
                "connecting to a PLAINTEXT broker listener?",
                Some("no TLS"),
            ),
            ("another version of TLS", RDKafkaErrorCode::SSL, "handshake failed", Some("security.protocol")),
            (
                "plain to a TLS port",
                RDKafkaErrorCode::BrokerTransportFailure,
                "k:1: Disconnected: receive 0 after POLLIN (after 2ms in state APIVERSION_QUERY)",
                Some("wants TLS"),
            ),
            (
                "a broker that stops",
                RDKafkaErrorCode::BrokerTransportFailure,
                "k:1: Disconnected: receive 0 after POLLIN (after 9000ms in state UP)",
                None,
            ),
            ("too old", RDKafkaErrorCode::UnsupportedFeature, "idempotent producer", Some("Kafka 2.4")),
            ("no name", RDKafkaErrorCode::Resolve, "kafka-1", Some("log.brokers")),
            ("a broker that starts", RDKafkaErrorCode::BrokerTransportFailure, "Connection refused", None),
            ("all of them", RDKafkaErrorCode::AllBrokersDown, "3/3 brokers are down", None),
        ];
        for (why, code, reason, want) in cases {
            let got = of(code, reason).map(|trouble| trouble.to_string());
            assert_eq!(got.is_some(), want.is_some(), "{why}: {got:?}");
            let got = got.unwrap_or_default();
            assert!(got.contains(want.unwrap_or_default()), "{why}: {got}");
        }
    }

    #[test]
    fn a_missing_right_is_said_with_its_thing_and_nothing_else_is() {
        let cases = [
            (
                "a topic",
                Some(RDKafkaErrorCode::TopicAuthorizationFailed),
                Some("the right Write on topic p.hl7.in "),
            ),
            (
                "no topic at all",
                Some(RDKafkaErrorCode::ClusterAuthorizationFailed),
                Some("Write on topic p.hl7.in "),
            ),
            (
                "a group",
                Some(RDKafkaErrorCode::GroupAuthorizationFailed),
                Some("the right Describe on group p "),
            ),
            ("something else", Some(RDKafkaErrorCode::RequestTimedOut), None),
            ("nothing", None, None),
        ];
        for (why, code, want) in cases {
            let got = denied(code, "Write on topic p.hl7.in", "Describe on group p");
            assert_eq!(got.is_some(), want.is_some(), "{why}: {got:?}");
            assert!(got.unwrap_or_default().contains(want.unwrap_or_default()), "{why}");
        }
    }
}
