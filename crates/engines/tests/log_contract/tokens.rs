//! The log on Kafka by tokens that a real Keycloak gives, and that the broker checks by its keys.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hilum_core::{Entropy, Stream};
use hilum_engines::log::kafka::{Durability, Kafka, KafkaConfig, Oauth, TokenSource};
use hilum_engines::log::{Log, LogError, partition_of};
use hilum_testkit::clock::system;
use hilum_testkit::kafka::{Kafka as Cluster, Secured};
use hilum_testkit::keycloak::{AUDIENCE, Client, Keycloak};

use crate::sample::{bodies, envelope, key};

/// Seconds that a token lives: short, so that the test sees several.
const TOKEN_S: u32 = 16;

/// Seconds for what must come about by itself, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

fn client<'a>(id: &'a str, audience: &'a str) -> Client<'a> {
    Client { id, secret: "sesam", audience }
}

async fn open(config: &KafkaConfig) -> Result<Log, LogError> {
    Kafka::open(config.clone(), &system(), &Entropy::seeded(9)).await.map(Log::Kafka)
}

async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_the_log_and_is_renewed_and_who_has_none_is_told_why() {
    let clients =
        [client("hilum", AUDIENCE), client("guest", AUDIENCE), client("elsewhere", "another service")];
    let keycloak = Keycloak::start(&clients, TOKEN_S);
    let broker = Cluster::secured(&Secured { users: &[], issuer: Some(keycloak.issuer()) });
    let rights = "--add --allow-principal User:hilum --operation All --topic t. --group t --resource-pattern-type prefixed";
    broker.tool("org.apache.kafka.tools.AclCommand", &rights.split(' ').collect::<Vec<_>>());
    let oauth = |id: &str, secret: &str| Oauth {
        url: keycloak.token_url(),
        client_id: id.to_owned(),
        client_secret: secret.to_owned(),
        ..Oauth::default()
    };
    let config = |oauth: Oauth| KafkaConfig {
        durability: Durability::Any,
        delivery_max: Duration::from_secs(5),
        client: BTreeMap::from([("ssl.ca.location".to_owned(), broker.ca_file().display().to_string())]),
        token: Some(TokenSource::Oauth(oauth)),
        ..KafkaConfig::new(broker.secured_brokers(), "t")
    };

    let cases = [
        ("a wrong secret", oauth("hilum", "geheim"), vec!["401", "log.token.client_id"]),
        ("nobody of that name", oauth("nemo", "geheim"), vec!["401", "`nemo`"]),
        (
            "no issuer there",
            Oauth { url: keycloak.token_url().replace("/token", "/tok"), ..oauth("hilum", "geheim") },
            vec!["HTTP 405", "log.token.url"],
        ),
        ("a token for others", oauth("elsewhere", "sesam"), vec!["invalid_token", "issuer, audience"]),
        ("no right", oauth("guest", "sesam"), vec!["the right Create on topic t."]),
    ];
    for (why, oauth, wanted) in cases {
        let refused = open(&config(oauth)).await.expect_err(why).to_string();
        for want in wanted {
            assert!(refused.contains(want), "{why}: {refused}");
        }
        assert!(
            !refused.contains("geheim") && !refused.contains("sesam") && !refused.contains("eyJ"),
            "{why}: {refused}"
        );
    }

    // Every kind of client: the administrator's makes the topics, others write, read, look one up and share.
    let log = open(&config(oauth("hilum", "sesam"))).await.expect("opens");
    let partition = partition_of(key(1), log.partitions(Stream::Hl7In));
    let first = until("appends", async || log.append(envelope(Stream::Hl7In, 1, "0")).await.ok()).await;
    assert!(bodies(&log, Stream::Hl7In, partition).await.contains(&"0".to_owned()));
    assert!(log.get(first).await.expect("looks up").is_some());
    let mut share = log.share("adt").expect("joins");
    share.wait_for(|share| !share.is_empty()).await.expect("partitions come");

    // Over several lives of a token. A moment in which one is shown anew may cost an acknowledgment, and no more.
    let mut acknowledged = vec!["0".to_owned()];
    let begun = Instant::now();
    let mut n = 0;
    while begun.elapsed() < Duration::from_secs(u64::from(TOKEN_S) * 5 / 2) || acknowledged.len() <= 20 {
        assert!(begun.elapsed() < PATIENCE, "{} acknowledged", acknowledged.len());
        n += 1;
        let body = n.to_string();
        match log.append(envelope(Stream::Hl7In, 1, body.clone().into_bytes())).await {
            Ok(_) => acknowledged.push(body),
            Err(why) => assert!(matches!(why, LogError::Unknown(_) | LogError::Full(_)), "{why}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let another = open(&config(oauth("hilum", "sesam"))).await.expect("a second process opens");
    let there = bodies(&another, Stream::Hl7In, partition).await;
    assert!(acknowledged.iter().all(|body| there.contains(body)), "{there:?}");
    another.close().await;

    // The issuer is silent: the last token is good to its end, then nothing is acknowledged, and it is said why.
    keycloak.pause();
    let refused = open(&config(oauth("hilum", "sesam"))).await.expect_err("no token").to_string();
    assert!(refused.contains("no token within") && refused.contains(&keycloak.token_url()), "{refused}");
    until("it goes on without a token", async || {
        let why = log.append(envelope(Stream::Hl7In, 1, "without")).await.err()?.to_string();
        assert!(!why.contains("eyJ"), "{why}");
        Some(())
    })
    .await;
    until("it says that there is no token", async || {
        let said = log.health().full.unwrap_or_default();
        (said.contains("no token within") || said.contains("run out")).then_some(())
    })
    .await;
    keycloak.resume();
    until("it goes on by itself", async || {
        log.append(envelope(Stream::Hl7In, 1, "again")).await.ok().map(|_| ())
    })
    .await;
    until("and reads", async || {
        let there = bodies(&log, Stream::Hl7In, partition).await;
        there.last().filter(|last| *last == "again").map(|_| ())
    })
    .await;
}
