//! What `hilum doctor` finds at a Kafka cluster, by clients of its own that only ask.

use std::collections::BTreeMap;
use std::time::Duration;

use hilum_core::Clock;
use rdkafka::admin::ResourceSpecifier;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;

use super::client::{Settings, Watched};
use super::cluster::{Cluster, options};
use super::names::Names;
use super::promise::{self, Holds};
use super::token::Tokens;
use super::{Durability, KafkaConfig, LogError, blocking, listing};
use crate::checkup::Noted;
use crate::limits::CHECKUP_S_MAX;

const ABOUT: &str = "kafka";
/// The oldest version whose brokers make topics as we ask (KIP-464: copies as the cluster does by itself).
const OLDEST: (u32, u32) = (2, 4);
/// Which setting says the version of a broker, up to 3.9.
const OLD_VERSION: &str = "inter.broker.protocol.version";

/// A topic as the brokers show it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Shown {
    partitions: usize,
    /// Copies of the partition that has the fewest.
    copies: usize,
    /// Copies in step, of the partition that has the fewest.
    in_sync: usize,
    /// Partitions whose copies are not all in step.
    behind: usize,
    /// Partitions that nobody leads.
    headless: usize,
    records: i64,
    /// Records that once stood there and do not any more.
    gone: i64,
}

/// What the cluster is.
struct Overview {
    brokers: Vec<(i32, String)>,
    cluster: Option<String>,
    topics: BTreeMap<String, Shown>,
}

/// Looks at the cluster and topics of `config`.
pub async fn look(config: KafkaConfig, clock: &Clock) -> Vec<Noted> {
    let looked = Box::pin(look_at(&config, clock));
    let why = match tokio::time::timeout(Duration::from_secs(CHECKUP_S_MAX), looked).await {
        Ok(Ok(found)) => return found,
        Ok(Err(why)) => why.to_string(),
        Err(_) => format!("kafka at {} does not answer in {CHECKUP_S_MAX} s", config.brokers),
    };
    vec![Noted::mend(ABOUT, why, "see that the brokers run, and that log.brokers and log.client are right")]
}

async fn look_at(config: &KafkaConfig, clock: &Clock) -> Result<Vec<Noted>, LogError> {
    let names = Names::new(&config.prefix)?;
    let tokens = match config.token.clone() {
        Some(source) => Some(Tokens::start(source, clock.clone()).await?),
        None => None,
    };
    let settings = Settings::new(config, tokens)?;
    let (cluster, _) = Cluster::of(&settings).await?;
    let overview = overview(&settings, &names).await?;
    let mut noted = of_brokers(config, &overview);
    noted.extend(of_version(&settings, &overview, config.durability).await);
    let own: Vec<&str> = overview.topics.keys().map(String::as_str).collect();
    if own.is_empty() {
        let found = format!("there are no topics {}.*", config.prefix);
        let remedy =
            "the first start makes them; if there were some, log.brokers or log.prefix leads elsewhere";
        noted.push(Noted::look(ABOUT, found, remedy));
        return Ok(noted);
    }
    noted.extend(of_list(&names, &overview.topics));
    for (name, shown) in &overview.topics {
        let Some(holds) = names.holds(name) else { continue };
        match cluster.topics(&names, &[name.as_str()]).await {
            Ok(described) => {
                for topic in &described {
                    let value = |setting: &str| topic.value(setting).to_owned();
                    noted.extend(of_topic(config, (name, holds), shown, &value));
                }
            }
            Err(why) => noted.push(Noted::look(
                ABOUT,
                why.to_string(),
                format!("give hilum's user DescribeConfigs on topic {name}"),
            )),
        }
    }
    noted.push(Noted::fine(
        ABOUT,
        "not asked, for its client has no words for it: free space of the brokers' disks, ids of topics",
    ));
    Ok(noted)
}

/// A log without the topic that says which one it is.
fn of_list(names: &Names, topics: &BTreeMap<String, Shown>) -> Option<Noted> {
    if topics.contains_key(&names.identity) {
        return None;
    }
    let (topic, _) = topics.iter().find(|(_, shown)| shown.records + shown.gone > 0)?;
    let found = format!("topic {} is not to be seen, though records stand in {topic}", names.identity);
    Some(Noted::mend(ABOUT, found, format!("{}, or give hilum's user Describe on it", listing::LIST_WAY_OUT)))
}

/// Brokers, and the log's own topics with what stands in them.
async fn overview(settings: &Settings, names: &Names) -> Result<Overview, LogError> {
    let (asker, consumer): (_, BaseConsumer<Watched>) = (settings.asker()?, settings.consumer()?);
    let names = names.clone();
    blocking(move || {
        let wait = Duration::from_secs(CHECKUP_S_MAX / 2);
        let fails =
            |why: rdkafka::error::KafkaError| LogError::Engine(format!("the brokers do not answer: {why}"));
        let metadata = asker.client().fetch_metadata(None, wait).map_err(fails)?;
        let mut topics = BTreeMap::new();
        for topic in metadata.topics() {
            let name = topic.name();
            if names.holds(name).is_none() {
                continue;
            }
            let mut shown = Shown { copies: usize::MAX, in_sync: usize::MAX, ..Shown::default() };
            for partition in topic.partitions() {
                let (copies, in_sync) = (partition.replicas().len(), partition.isr().len());
                shown.partitions += 1;
                shown.copies = shown.copies.min(copies);
                shown.in_sync = shown.in_sync.min(in_sync);
                shown.behind += usize::from(in_sync < copies);
                if partition.leader() < 0 {
                    shown.headless += 1;
                    continue;
                }
                // One that does not say is counted as empty: that it does not answer is found elsewhere.
                let (first, end) = consumer.fetch_watermarks(name, partition.id(), wait).unwrap_or_default();
                shown.records += end - first;
                shown.gone += first;
            }
            topics.insert(name.to_owned(), shown);
        }
        let brokers = metadata.brokers().iter();
        Ok(Overview {
            brokers: brokers.map(|one| (one.id(), format!("{}:{}", one.host(), one.port()))).collect(),
            cluster: asker.client().fetch_cluster_id(wait),
            topics,
        })
    })
    .await
}

fn of_brokers(config: &KafkaConfig, overview: &Overview) -> Vec<Noted> {
    let brokers: Vec<&str> = overview.brokers.iter().map(|(_, place)| place.as_str()).collect();
    let cluster = overview.cluster.as_deref().unwrap_or("unknown");
    let found = format!("cluster {cluster}, {} brokers: {}", brokers.len(), brokers.join(", "));
    let mut noted = vec![Noted::fine(ABOUT, found)];
    let named = config.brokers.split(',').filter(|one| !one.trim().is_empty()).count();
    if named < 2 && brokers.len() > 1 {
        noted.push(Noted::look(
            ABOUT,
            format!("log.brokers names {named} of {} brokers", brokers.len()),
            "name at least two: a process that starts while this one is away finds no cluster",
        ));
    }
    if config.durability == Durability::Any {
        let remedy = "never for patients: log.durability, and no --allow-weak-log";
        noted.push(Noted::look(ABOUT, "whatever the cluster promises is taken (--allow-weak-log)", remedy));
    }
    noted
}

/// What a broker's settings say of its version, and of what our groups rest on.
async fn of_version(settings: &Settings, overview: &Overview, durability: Durability) -> Vec<Noted> {
    let Some((id, _)) = overview.brokers.first() else { return Vec::new() };
    let denied = |why: &str| {
        let found = format!("which version the brokers are is not shown to us ({why})");
        vec![Noted::fine(ABOUT, format!("{found}: that takes DescribeConfigs on the cluster"))]
    };
    let admin = match settings.admin() {
        Ok(admin) => admin,
        Err(why) => return denied(&why.to_string()),
    };
    let described = admin.describe_configs(&[ResourceSpecifier::Broker(*id)], &options()).await;
    let found = match described.map(|mut all| all.pop()) {
        Ok(Some(Ok(found))) if !found.entries.is_empty() => found,
        Ok(Some(Err(RDKafkaErrorCode::ClusterAuthorizationFailed))) => return denied("no right to"),
        Ok(Some(Err(why))) => return denied(&why.to_string()),
        Ok(_) => return denied("it says nothing"),
        Err(why) => return denied(&why.to_string()),
    };
    let value = |name: &str| found.get(name).and_then(|entry| entry.value.clone());
    let mut noted = vec![version_of(value(OLD_VERSION).as_deref())];
    let copies = value("offsets.topic.replication.factor").and_then(|value| value.parse::<u32>().ok());
    if copies.is_some_and(|copies| copies < 2)
        && overview.brokers.len() > 1
        && durability == Durability::Replicated
    {
        noted.push(Noted::look(
            ABOUT,
            "__consumer_offsets has one copy (offsets.topic.replication.factor): with that broker away no worker is \
             given work",
            "set it to 3, and give the topic its copies (kafka-reassign-partitions)",
        ));
    }
    noted
}

/// Brokers of 4.0 and later have no such setting any more.
fn version_of(says: Option<&str>) -> Noted {
    let Some(says) = says else { return Noted::fine(ABOUT, "the brokers are of version 4.0 or newer") };
    let found = format!("the brokers speak as version {says}");
    let mut parts = says.split(['.', '-', 'I']).map_while(|part| part.parse::<u32>().ok());
    match (parts.next(), parts.next()) {
        (Some(major), minor) if (major, minor.unwrap_or_default()) < OLDEST => Noted::mend(
            ABOUT,
            found,
            format!("upgrade them: {}.{} is the oldest that this program works with", OLDEST.0, OLDEST.1),
        ),
        _ => Noted::fine(ABOUT, found),
    }
}

/// Settings, copies and records of one topic of the log.
fn of_topic(
    config: &KafkaConfig,
    (name, holds): (&str, Holds),
    shown: &Shown,
    value: &dyn Fn(&str) -> String,
) -> Vec<Noted> {
    let about = format!("{ABOUT} {name}");
    let mut noted = Vec::new();
    for demand in promise::demands(holds, config.durability) {
        let promise::Demand { setting, or, .. } = &demand;
        let has = value(setting);
        if demand.holds(&has) {
            continue;
        }
        let remedy = format!(
            "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {name} --add-config \
             {setting}={}",
            config.brokers,
            demand.value()
        );
        noted.push(Noted::mend(&about, format!("{setting} is {has}: {or}"), remedy));
    }
    let in_sync = value("min.insync.replicas").parse::<usize>().unwrap_or(1);
    if value("message.timestamp.type") != "LogAppendTime" {
        let remedy = "set it to LogAppendTime: it tells when a record was durable";
        noted.push(Noted::look(&about, "message.timestamp.type is not LogAppendTime", remedy));
    }
    noted.extend(of_copies(config, &about, shown, in_sync));
    if shown.gone > 0 {
        let remedy = match holds {
            Holds::List => listing::LIST_WAY_OUT,
            Holds::Messages | Holds::Changes => {
                "what was applied stays in the chart, and a rebuild would lose it: export from a mirror, see that \
                 retention is -1, and that nobody deletes records"
            }
        };
        let found = format!("{} records that once stood at its beginning are gone", shown.gone);
        noted.push(Noted::mend(&about, found, remedy));
    }
    if noted.is_empty() {
        let (partitions, copies, records) = (shown.partitions, shown.copies, shown.records);
        let bytes = value("max.message.bytes");
        let found = format!(
            "{partitions} partitions, {copies} copies, min.insync.replicas={in_sync}, max.message.bytes={bytes}, kept for \
             ever, {records} records"
        );
        noted.push(Noted::fine(&about, found));
    }
    noted
}

fn of_copies(config: &KafkaConfig, about: &str, shown: &Shown, in_sync: usize) -> Vec<Noted> {
    let mut noted = Vec::new();
    if shown.headless > 0 {
        let found = format!("{} of {} partitions have no leader", shown.headless, shown.partitions);
        noted.push(Noted::mend(about, found, "bring the brokers back: nothing of these is taken or applied"));
    } else if shown.in_sync < in_sync {
        let found =
            format!("a partition has {} of the {in_sync} copies in step that it needs", shown.in_sync);
        noted.push(Noted::mend(about, found, "bring the brokers back: nothing of it is acknowledged"));
    } else if shown.behind > 0 {
        let found =
            format!("{} of {} partitions have copies that are not in step", shown.behind, shown.partitions);
        noted.push(Noted::look(about, found, "see to the broker that is away or slow"));
    }
    if config.durability == Durability::Replicated {
        let copies = shown.copies;
        let remedy = "give it 3 copies (kafka-reassign-partitions)";
        if copies < 2 {
            noted.push(Noted::mend(about, format!("it has {copies} copy"), remedy));
        } else if copies <= in_sync {
            let found =
                format!("{copies} copies, all of which must have a record: with one broker away it stops");
            noted.push(Noted::look(about, found, remedy));
        }
    }
    noted
}

#[cfg(test)]
mod tests {
    use super::super::client::topic_bytes_max;
    use super::*;
    use crate::checkup::Grade;

    #[test]
    fn versions_are_read_from_what_brokers_say() {
        let cases = [
            ("4.0 and later say nothing", None, Grade::Fine),
            ("the last that said", Some("3.9-IV0"), Grade::Fine),
            ("the oldest", Some("2.4-IV1"), Grade::Fine),
            ("older", Some("2.3-IV1"), Grade::Mend),
            ("much older", Some("0.11.0-IV2"), Grade::Mend),
            ("no number", Some("x"), Grade::Fine),
        ];
        for (why, says, want) in cases {
            assert_eq!(version_of(says).grade, want, "{why}");
        }
    }

    #[test]
    fn a_topic_that_forgets_is_said_with_its_remedy() {
        let config = KafkaConfig::new("127.0.0.1:9", "x");
        let shown = Shown { partitions: 8, copies: 3, in_sync: 3, records: 7, ..Shown::default() };
        let messages = ("x.hl7.in", Holds::Messages);
        let bytes = topic_bytes_max().to_string();
        let good = |setting: &str| match setting {
            "cleanup.policy" => "delete",
            "retention.ms" | "retention.bytes" => "-1",
            "max.message.bytes" => bytes.as_str(),
            "min.insync.replicas" => "2",
            "unclean.leader.election.enable" => "false",
            "message.timestamp.type" => "LogAppendTime",
            _ => "",
        };
        let noted = of_topic(&config, messages, &shown, &|setting| good(setting).to_owned());
        assert_eq!(noted.iter().map(|one| one.grade).collect::<Vec<_>>(), [Grade::Fine], "{noted:?}");
        let planted = [
            ("cleanup.policy", "compact", Grade::Mend),
            ("retention.ms", "604800000", Grade::Mend),
            ("max.message.bytes", "1048588", Grade::Mend),
            ("min.insync.replicas", "1", Grade::Mend),
            ("unclean.leader.election.enable", "true", Grade::Mend),
            ("message.timestamp.type", "CreateTime", Grade::Look),
        ];
        for (name, value, want) in planted {
            let with = |setting: &str| if setting == name { value } else { good(setting) }.to_owned();
            let noted = of_topic(&config, messages, &shown, &with);
            let [one] = noted.as_slice() else { panic!("{name}: {noted:?}") };
            assert!(one.grade == want && one.found.contains(name) && !one.remedy.is_empty(), "{one:?}");
        }
        let gone = Shown { gone: 5, ..shown };
        let noted = of_topic(&config, messages, &gone, &|setting| good(setting).to_owned());
        assert!(
            noted.iter().any(|one| one.grade == Grade::Mend && one.found.contains("5 records")),
            "{noted:?}"
        );
    }

    #[test]
    fn the_topic_that_lists_the_others_is_held_to_the_same() {
        let config = KafkaConfig::new("127.0.0.1:9", "x");
        let names = Names::new("x").unwrap();
        let shown = Shown { partitions: 1, copies: 3, in_sync: 3, records: 1, ..Shown::default() };
        let list = (names.identity.as_str(), names.holds(&names.identity).unwrap());
        let good = |setting: &str| match setting {
            "cleanup.policy" => "delete",
            "retention.ms" | "retention.bytes" => "-1",
            "min.insync.replicas" => "2",
            "message.timestamp.type" => "LogAppendTime",
            // What stands there is small.
            "max.message.bytes" => "1048588",
            _ => "",
        };
        for (name, value) in [
            ("retention.ms", "604800000"),
            ("min.insync.replicas", "1"),
            ("unclean.leader.election.enable", "true"),
        ] {
            let with = |setting: &str| if setting == name { value } else { good(setting) }.to_owned();
            let noted = of_topic(&config, list, &shown, &with);
            let [one] = noted.as_slice() else { panic!("{name}: {noted:?}") };
            assert!(one.grade == Grade::Mend && one.found.contains(name), "{one:?}");
        }
        let mut topics = BTreeMap::from([("x.hl7.in".to_owned(), shown.clone())]);
        let lost = of_list(&names, &topics).expect("records, and nobody says whose");
        assert!(lost.grade == Grade::Mend && lost.found.contains("x.log"), "{lost:?}");
        topics.insert(names.identity.clone(), shown.clone());
        assert!(of_list(&names, &topics).is_none());
        let new = BTreeMap::from([("x.hl7.in".to_owned(), Shown { records: 0, ..shown })]);
        assert!(of_list(&names, &new).is_none(), "made by hand for a first start");
    }

    #[test]
    fn copies_are_said_by_what_they_cost() {
        let config = KafkaConfig::new("127.0.0.1:9", "x");
        let good = Shown { partitions: 8, copies: 3, in_sync: 3, ..Shown::default() };
        let cases: [(&str, Shown, Option<Grade>); 6] = [
            ("good", good.clone(), None),
            ("one behind", Shown { in_sync: 2, behind: 8, ..good.clone() }, Some(Grade::Look)),
            ("two behind", Shown { in_sync: 1, behind: 8, ..good.clone() }, Some(Grade::Mend)),
            ("no leader", Shown { headless: 1, ..good.clone() }, Some(Grade::Mend)),
            ("no spare", Shown { copies: 2, in_sync: 2, ..good.clone() }, Some(Grade::Look)),
            ("one copy", Shown { copies: 1, in_sync: 1, ..good }, Some(Grade::Mend)),
        ];
        for (why, shown, want) in cases {
            let noted = of_copies(&config, "x", &shown, 2);
            let worst = noted.iter().map(|one| one.grade).max_by_key(|grade| *grade as u8);
            assert_eq!(worst, want, "{why}: {noted:?}");
        }
    }
}
