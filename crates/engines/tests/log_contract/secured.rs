//! Who is let in to Kafka, who may do what there, and what is said to those who may not.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use hilum_core::{Entropy, Id, Seq, Stream};
use hilum_engines::log::kafka::{Durability, Kafka, KafkaConfig};
use hilum_engines::log::{Last, Log, LogError, partition_of};
use hilum_engines::tables::Change;
use hilum_testkit::kafka::{Kafka as Cluster, Secured};
use hilum_testkit::tls::Authority;

use crate::sample::{ALL, bodies, envelope, hl7, key, ticking};
use crate::topics::{of, with_topics};

/// Everybody's password is their name and `-secret`.
const USERS: &[(&str, &str)] = &[
    ("admin", "admin-secret"),
    ("hilum-install", "hilum-install-secret"),
    ("hilum-gateway", "hilum-gateway-secret"),
    ("hilum-worker", "hilum-worker-secret"),
    ("hilum-reader", "hilum-reader-secret"),
    ("analytics", "analytics-secret"),
    ("follower", "follower-secret"),
    ("ed-program", "ed-program-secret"),
    ("maker", "maker-secret"),
    ("literal", "literal-secret"),
    ("nobody", "nobody-secret"),
    ("blind", "blind-secret"),
];

/// The broker of these tests; never dropped: its watcher stops it when this process ends.
pub fn broker() -> &'static Cluster {
    static BROKER: OnceLock<Cluster> = OnceLock::new();
    BROKER.get_or_init(|| Cluster::secured(&Secured { users: USERS, issuer: None }))
}

/// How `user` comes to it, with the prefix of the manual.
pub fn config(user: &str, password: &str) -> KafkaConfig {
    let ca = broker().ca_file().display().to_string();
    let client = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", user),
        ("sasl.password", password),
        ("ssl.ca.location", &ca),
    ];
    let client: BTreeMap<String, String> =
        client.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    KafkaConfig {
        durability: Durability::Any,
        client,
        ..KafkaConfig::new(broker().secured_brokers(), "hilum")
    }
}

async fn open(config: KafkaConfig) -> Result<Log, LogError> {
    Kafka::open(config, &ticking(), &Entropy::seeded(7)).await.map(Log::Kafka)
}

async fn open_as(user: &str) -> Result<Log, LogError> {
    open(config(user, &format!("{user}-secret"))).await
}

fn with(mut config: KafkaConfig, name: &str, value: &str) -> KafkaConfig {
    config.client.insert(name.to_owned(), value.to_owned());
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_let_in_is_told_why_and_what_to_do() {
    let other = tempfile::tempdir().expect("a folder");
    let stranger = other.path().join("ca.pem");
    let authority = Authority::new("somebody else").expect("an authority");
    std::fs::write(&stranger, authority.certificate()).expect("writes");
    let good = || config("admin", "admin-secret");
    let plain = KafkaConfig { brokers: broker().brokers(), ..good() };
    let cases = [
        ("wrong password", config("admin", "geheim"), vec!["invalid credentials", "sasl.password"]),
        ("unknown user", config("nemo", "geheim"), vec!["invalid credentials", "sasl.username"]),
        ("another mechanism", with(good(), "sasl.mechanism", "PLAIN"), vec!["PLAIN", "sasl.mechanism"]),
        (
            "unknown signer",
            with(good(), "ssl.ca.location", &stranger.display().to_string()),
            vec!["certificate verify failed", "ssl.ca.location"],
        ),
        (
            "a name that the certificate is not for",
            KafkaConfig { brokers: good().brokers.replace("127.0.0.1", "localhost"), ..good() },
            vec!["localhost", "the names that theirs are for"],
        ),
        (
            "no TLS",
            with(good(), "security.protocol", "SASL_PLAINTEXT"),
            vec!["wants TLS", "security.protocol"],
        ),
        (
            "neither TLS nor a name",
            with(good(), "security.protocol", "PLAINTEXT"),
            vec!["wants TLS", "SASL_SSL"],
        ),
        ("TLS to a listener without", plain, vec!["speaks no TLS", "security.protocol"]),
        (
            "tokens from nowhere",
            with(good(), "sasl.mechanism", "OAUTHBEARER"),
            vec!["sasl.mechanism = OAUTHBEARER", "log.token"],
        ),
    ];
    for (why, config, wanted) in cases {
        let refused = open(config.clone()).await.expect_err(why).to_string();
        for want in wanted {
            assert!(refused.contains(want), "{why}: {refused}");
        }
        assert!(!refused.contains("geheim") && !refused.contains("admin-secret"), "{why}: {refused}");
        let is_named = why == "tokens from nowhere" || refused.contains(&config.brokers);
        assert!(is_named, "{why}: {refused}");
    }
}

/// The commands of the manual, as they stand there.
fn commands() -> Vec<Vec<String>> {
    let manual = include_str!("../../../../docs/OPERATIONS.md");
    let lines = manual.lines().filter_map(|line| line.strip_prefix("$ACLS "));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The rights of the manual are enough for each role, and each that is missing is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_do_what_the_manual_gives_it_and_no_more() {
    let refused = open_as("nobody").await.expect_err("no right at all").to_string();
    assert!(refused.contains("Create on topic hilum.") && refused.contains("Describe"), "{refused}");

    let mut commands = commands();
    assert!(commands.len() >= 5, "{commands:?}");
    for rights in [
        "--operation Describe --operation DescribeConfigs --topic hilum. --resource-pattern-type prefixed",
        "--operation Read --topic hilum.log",
        "--operation Describe --group hilum",
    ] {
        let whole = format!("--allow-principal User:blind {rights}");
        commands.push(whole.split_whitespace().map(str::to_owned).collect());
    }
    for rights in [
        "--operation Read --operation DescribeConfigs --topic hilum. --resource-pattern-type prefixed",
        "--operation Describe --group hilum",
    ] {
        let whole = format!("--allow-principal User:maker --allow-principal User:literal {rights}");
        commands.push(whole.split_whitespace().map(str::to_owned).collect());
    }
    for whole in [
        "--allow-principal User:maker --operation Create --topic hilum. --resource-pattern-type prefixed",
        "--allow-principal User:literal --operation Write --topic hilum.hl7.in",
    ] {
        commands.push(whole.split_whitespace().map(str::to_owned).collect());
    }
    std::thread::scope(|scope| {
        for command in &commands {
            scope.spawn(|| {
                let arguments: Vec<&str> =
                    ["--add"].into_iter().chain(command.iter().map(String::as_str)).collect();
                broker().tool("org.apache.kafka.tools.AclCommand", &arguments);
            });
        }
    });
    // Makes the topics, and is needed no more.
    let install = open_as("hilum-install").await.expect("the first start");
    install.feed().await.expect("the change feed too").close().await;

    let gateway = open_as("hilum-gateway").await.expect("a gateway opens");
    for stream in Stream::ALL {
        gateway.append(envelope(stream, 1, "from a gateway")).await.expect("a gateway appends");
    }
    let partition = partition_of(key(1), gateway.partitions(Stream::Hl7In));
    assert_eq!(bodies(&gateway, Stream::Hl7In, partition).await, ["from a gateway"]);
    let blind = open_as("blind").await.expect("the checks at the start need no more");
    let refused = blind.read(Stream::Hl7In, partition, 0, ALL).await.expect_err("reads no patients");
    assert!(refused.to_string().contains("the right Read on topic hilum.hl7.in"), "{refused}");

    let worker = open_as("hilum-worker").await.expect("a worker opens");
    assert_eq!(bodies(&worker, Stream::Hl7In, partition).await, ["from a gateway"]);
    let mut share = worker.share("adt").expect("joins");
    let all = usize::from(worker.partitions(Stream::Hl7In)) * Stream::ALL.len();
    share.wait_for(|share| share.len() == all).await.expect("partitions come");
    let refused = worker.append(hl7(1)).await.expect_err("a worker takes nothing in");
    assert!(refused.to_string().contains("the right Write on topic hilum.hl7.in"), "{refused}");

    let reader = open_as("hilum-reader").await.expect("a reader opens");
    assert_eq!(bodies(&reader, Stream::Hl7In, partition).await, ["from a gateway"]);
    reader.append(envelope(Stream::Decisions, 1, "an operator's")).await.expect("a reader appends decisions");
    // A second time: the first has not stopped it for good.
    let refused = worker.append(hl7(1)).await.expect_err("nor a second time");
    assert!(refused.to_string().contains("the right Write on topic hilum.hl7.in"), "{refused}");

    let refused = open_as("analytics").await.expect_err("another client is none of us").to_string();
    assert!(refused.contains("the right"), "{refused}");
    a_stranger_reads_by_the_form_of_the_manual(&gateway, &worker, partition).await;
    another_follows_what_changes_and_sees_no_patient(&gateway, &worker).await;
    assert_eq!(share.borrow().len(), all, "nobody's share has changed");
    one_program_reads_one_source(&worker).await;
    let all = all + usize::from(worker.partitions(Stream::Decisions));
    share.wait_for(|share| share.len() == all).await.expect("the worker has its partitions too");
}

/// A topic of a source: who may not make or list it is told which right is missing, and its name; who may read it alone
/// reads nothing else, and who may read the others not that.
async fn one_program_reads_one_source(worker: &Log) {
    let with_ed = |user: &str| with_topics(&config(user, &format!("{user}-secret")), &["ed"]);
    let refused = open(with_ed("hilum-gateway")).await.expect_err("it makes no topics").to_string();
    let want =
        "topic hilum.hl7.in.ed cannot be made: this user has not the right Create on topic hilum.hl7.in.ed";
    assert!(refused.contains(want), "{refused}");
    let refused = open(with_ed("maker")).await.expect_err("it may not list it").to_string();
    assert!(refused.contains("the right Write on topic hilum.log"), "{refused}");
    // It is made, and not listed: nobody knows it yet.
    let places = worker.places(&Stream::ALL).len();
    open(with_ed("hilum-install")).await.expect("lists it");
    let gateway = open(with_ed("hilum-gateway")).await.expect("now it opens");
    let position = gateway.append(of("ed", 1)).await.expect("a gateway appends");
    worker.grown(places).await;
    assert_eq!(bodies(worker, Stream::Hl7In, position.partition).await, ["MSH|^~\\&|1"]);

    // A gateway from before, with a right on one topic alone: nothing is acknowledged, and the others go on.
    let literal = open(with_ed("literal")).await.expect("the checks at the start need no more");
    let refused = literal.append(of("ed", 1)).await.expect_err("may not write there").to_string();
    assert!(refused.contains("the right Write on topic hilum.hl7.in.ed"), "{refused}");
    literal.append(of("lab", 1)).await.expect("the other sources go on");
    let end = worker.end(Stream::Hl7In, position.partition).await.expect("an end");
    assert_eq!(end, 1, "nothing has come");

    let own = "hilum.hl7.in.ed";
    for (user, topic, may) in [
        ("ed-program", own, true),
        ("ed-program", "hilum.hl7.in", false),
        ("analytics", "hilum.hl7.in", true),
        ("analytics", own, false),
    ] {
        let read = kcat_to("-C", user, topic).args(["-o", "beginning", "-e", "-f", "%h\\n"]).output();
        let read = read.expect("kcat runs");
        let (text, said) = (String::from_utf8_lossy(&read.stdout), String::from_utf8_lossy(&read.stderr));
        assert_eq!(read.status.success(), may, "{user} {topic}: {text}{said}");
        if may {
            let is_of_ed = |line: &str| line.contains(r#""source":"ed""#);
            assert!(!text.is_empty() && text.lines().all(|line| is_of_ed(line) == (topic == own)), "{text}");
        } else {
            assert!(text.is_empty() && said.contains("uthorization"), "{user} {topic}: {text}{said}");
        }
    }
}

/// kcat as `user`, told to print what stands in `hilum.hl7.in`.
fn kcat(user: &str, further: &[&str]) -> Command {
    let mut kcat = kcat_to("-C", user, "hilum.hl7.in");
    kcat.args(["-f", "%p|%o|%k|%h|%s\\n"]).args(further);
    kcat
}

/// kcat as `user`, to read (`-C`) or write (`-P`) a topic.
fn kcat_to(does: &str, user: &str, topic: &str) -> Command {
    let config = config(user, &format!("{user}-secret"));
    let mut kcat = Command::new("kcat");
    // With patience: on a busy machine its five seconds are over before it is let in.
    kcat.args([does, "-m", "60", "-b", &config.brokers, "-t", topic]);
    if does == "-C" {
        kcat.arg("-q");
    }
    for (name, value) in &config.client {
        // Its librdkafka is older and knows one name of the two.
        let name = if name == "sasl.mechanism" { "sasl.mechanisms" } else { name };
        kcat.arg("-X").arg(format!("{name}={value}"));
    }
    kcat
}

fn changed(t: i64, n: i64) -> Change {
    let body = format!("{{\"type\":\"Encounter\",\"id\":\"{}\",\"version\":1}}", key(n as u64));
    Change { t: Seq(t), n, topic: "chart.resource".to_owned(), key: key(n as u64), body: body.into() }
}

/// Reads `hilum.chart.changes` by a right on that topic alone.
async fn another_follows_what_changes_and_sees_no_patient(gateway: &Log, worker: &Log) {
    let life = Id::from_bytes([3; 16]);
    let feed = worker.feed().await.expect("a worker opens the feed");
    assert_eq!(feed.tail().await.expect("reads").last, Last::Empty);
    feed.publish(life, 7, None, &[changed(40, 0), changed(40, 1)]).await.expect("a worker publishes");
    let Last::Entry(mark, subject) = feed.tail().await.expect("reads").last else { panic!("an entry") };
    assert_eq!((mark.life, mark.term, mark.t, mark.n, subject), (life, 7, 40, 1, key(1)));

    let read = |kcat: &mut Command| {
        let read = kcat.args(["-o", "beginning", "-e"]).output().expect("kcat runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (read.status.success(), text(&read.stdout), text(&read.stderr))
    };
    let mut changes = kcat_to("-C", "follower", "hilum.chart.changes");
    let (is_read, text, said) = read(changes.args(["-f", "%p|%o|%k|%h|%s\\n"]));
    assert!(is_read, "{text}{said}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (n, line) in lines.into_iter().enumerate() {
        let fields: Vec<&str> = line.splitn(5, '|').collect();
        let [partition, offset, subject, header, value] = fields[..] else { panic!("{line}") };
        let want = changed(40, n as i64);
        assert_eq!((partition, offset, subject), ("0", &*n.to_string(), &*want.key.to_string()), "{line}");
        assert_eq!(value.as_bytes(), want.body.as_ref());
        let mark: serde_json::Value =
            serde_json::from_str(header.strip_prefix("hilum-change=").expect(header)).expect("JSON");
        let manual = include_str!("../../../../docs/EVENTS.md");
        for (name, _) in mark.as_object().expect("an object") {
            assert!(manual.contains(&format!("| `{name}` |")), "docs/EVENTS.md does not name `{name}`");
        }
        assert_eq!((mark["t"].as_i64(), mark["n"].as_i64()), (Some(40), Some(n as i64)));
    }

    // Patients' messages he may not read, and nobody but a worker may publish.
    let (is_read, text, said) = read(&mut kcat_to("-C", "follower", "hilum.hl7.in"));
    assert!(!is_read && text.is_empty() && said.contains("uthorization"), "{text}{said}");
    let mut writes = kcat_to("-P", "follower", "hilum.chart.changes");
    let mut writes =
        writes.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("kcat runs");
    writes.stdin.take().expect("its input").write_all(b"forged\n").expect("writes");
    let written = writes.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&written.stderr).into_owned();
    assert!(said.contains("uthorization"), "{said}");
    let theirs = gateway.feed().await.expect("whoever reads may look");
    let refused =
        theirs.publish(life, 8, None, &[changed(41, 0)]).await.expect_err("a gateway publishes nothing");
    assert!(refused.to_string().contains("the right Write on topic hilum.chart.changes"), "{refused}");
    let Last::Entry(mark, _) = feed.tail().await.expect("reads").last else { panic!("an entry") };
    assert_eq!((mark.t, mark.n), (40, 1), "nothing has come");
    theirs.close().await;
    feed.close().await;
}

fn end(mut child: Child) {
    child.kill().expect("is there");
    child.wait().expect("is gone");
}

async fn a_stranger_reads_by_the_form_of_the_manual(gateway: &Log, worker: &Log, partition: u16) {
    let read = kcat("analytics", &["-o", "beginning", "-e"]).output().expect("kcat runs");
    let text = String::from_utf8_lossy(&read.stdout).into_owned();
    assert!(read.status.success(), "{text}{}", String::from_utf8_lossy(&read.stderr));
    let fields: Vec<&str> = text.trim_end().splitn(5, '|').collect();
    let [at, offset, key_text, headers, value] = fields[..] else { panic!("{text}") };
    assert_eq!((at, offset, value), (partition.to_string().as_str(), "0", "from a gateway"));
    assert_eq!(key_text, key(1).to_string());
    let envelope_text = headers.strip_prefix("hilum-envelope=").expect(headers);
    let header: serde_json::Value = serde_json::from_str(envelope_text).expect("JSON");
    // What docs/EVENTS.md calls a field is one, and the other way about.
    let manual = include_str!("../../../../docs/EVENTS.md");
    for (name, _) in header.as_object().expect("an object") {
        assert!(manual.contains(&format!("| `{name}` |")), "docs/EVENTS.md does not name `{name}`");
    }
    assert_eq!(header["v"], 1);
    assert_eq!(header["stream"], "hl7.in");
    assert_eq!(header["key"], key_text);

    // It follows, is killed, and leaves nothing behind: no group, no offset, and nobody waits for it.
    let groups = || {
        let said = broker().tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &["--list"]);
        // Between the lines of its log.
        said.lines()
            .filter(|line| !line.contains([' ', '\t']) && !line.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = groups();
    assert_eq!(before, ["hilum.adt"]);
    let mut follows = kcat("analytics", &["-u", "-o", "beginning"]);
    let mut follows = follows.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("kcat runs");
    let mut lines = BufReader::new(follows.stdout.take().expect("its output")).lines();
    assert!(lines.next().expect("a line").expect("text").ends_with("from a gateway"));
    gateway.append(envelope(Stream::Hl7In, 1, "while it reads")).await.expect("appends");
    assert!(lines.next().expect("a line").expect("text").ends_with("while it reads"));
    end(follows);
    gateway.append(envelope(Stream::Hl7In, 1, "while nobody reads")).await.expect("appends");
    let there = bodies(worker, Stream::Hl7In, partition).await;
    assert_eq!(there, ["from a gateway", "while it reads", "while nobody reads"]);
    assert_eq!(groups(), before);

    // It may read, and nothing else: it writes nothing and joins no group of ours.
    let mut denied = kcat("analytics", &["-G", "hilum.adt", "hilum.hl7.in"]);
    let mut denied = denied.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("kcat runs");
    let mut said = BufReader::new(denied.stderr.take().expect("its errors")).lines();
    let said = said.find_map(|line| line.ok().filter(|line| line.contains("authorization")));
    end(denied);
    assert!(said.is_some_and(|line| line.to_lowercase().contains("group authorization")));
}
