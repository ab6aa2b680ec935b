//! A source with a topic of its own, in a house of several processes: it comes while they run, and it is lost.

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::tempdir;

use crate::archive::a40;
use crate::damage::{doctor, json};
use crate::many::{config, patients, sibling, state};
use crate::server::{Server, Session, Start, a01, request, run, wait};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

fn post(server: &Server, key: &str, body: &str) -> u16 {
    let headers = [("x-api-key", key), ("content-type", "application/hl7-v2")];
    request(server.http.unwrap(), "POST", "/hl7v2", &headers, body.as_bytes()).status
}

/// The partition of a message by its control id.
fn partition_of(server: &Server, key: &str, control_id: &str) -> u16 {
    let found = wait("it is found", 20, || {
        let found = json(server, &format!("/api/messages?control_id={control_id}"), key);
        found["messages"].get(0).cloned()
    });
    let place = found["position"].as_str().unwrap();
    assert!(place.starts_with("hl7.in/"), "{place}");
    place.split('/').nth(1).unwrap().parse().unwrap()
}

/// What partitions are paused for: stream, number, cause and why.
fn paused(server: &Server) -> Vec<(String, u64, String, String)> {
    let said = state(server).1;
    let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
    let paused = said["partitions"].as_array().cloned().unwrap_or_default();
    let of = |one: &Value| {
        let number = one["partition"].as_u64().unwrap();
        (text(one, "stream"), number, text(one, "cause"), text(one, "why"))
    };
    paused.iter().map(of).collect()
}

#[test]
fn a_topic_comes_while_all_run_and_its_loss_stops_its_source_alone() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::shared());
    let config = format!("{}\n[sources.ed]\nmatch = {{ keys = [\"ed\"] }}\n", config(&kafka, postgres));
    let with_topic = format!("{config}topic = true\n");
    let prefix = config.lines().find_map(|line| line.strip_prefix("prefix = ")).unwrap().trim_matches('"');
    let topic = format!("{prefix}.hl7.in.ed");
    let folder = tempdir().unwrap();
    let start = Start { config: &config, ..Start::default() };
    let one = Server::start(&folder, &start);
    let viewer = one.key("viewer", "viewer");
    let (ed, lab, admin) = (one.key("ed", "feed"), one.key("lab", "feed"), one.key("admin", "admin"));
    let as_gateway = ["--roles", "gateway"];
    let on_board =
        |count: usize| wait("on the board", 40, || (patients(&one, &viewer) == count).then_some(()));
    assert_eq!(post(&one, &ed, &a01("E0")), 200);
    on_board(1);
    assert!(partition_of(&one, &viewer, "E0") < 8);
    assert_eq!(post(&one, &ed, &a40("Q0", "E0", "")), 200, "kept, and set aside");

    // A gateway begins with another configuration; who runs is told nothing, and applies what comes.
    let gateway_folder = sibling(&folder);
    let start = Start { config: &with_topic, arguments: &as_gateway, ..Start::default() };
    let gateway = Server::start(&gateway_folder, &start);
    for control_id in ["E1", "E2", "E3"] {
        assert_eq!(post(&gateway, &ed, &a01(control_id)), 200);
    }
    assert_eq!(post(&gateway, &lab, &a01("L1")), 200);
    on_board(5);
    assert_eq!(state(&one).0, 200, "{}", state(&one).1);
    let at = partition_of(&one, &viewer, "E1");
    assert!((8..16).contains(&at), "{at}");
    assert!(partition_of(&one, &viewer, "L1") < 8);
    let of_it = |server: &Server, at: u16| {
        let sources = json(server, "/api/sources", &viewer);
        let partitions = sources["partitions"].as_array().unwrap();
        assert_eq!(partitions.len(), 24, "{sources}");
        let is_it = |row: &&Value| row["stream"] == "hl7.in" && row["partition"] == at;
        partitions.iter().find(is_it).unwrap().clone()
    };
    let row = wait("all of it is applied", 20, || Some(of_it(&one, at)).filter(|row| row["lag"] == 0));
    assert_eq!((row["topic"].as_str(), row["applied"].as_u64()), (Some(&*topic), row["end"].as_u64()));
    let html = [("x-api-key", &*viewer), ("accept", "text/html")];
    let page = request(one.http.unwrap(), "GET", "/sources", &html, b"").text();
    assert!(page.contains(&topic) && !page.contains(&format!(">{prefix}.hl7.in<")), "{page}");
    let metrics = request(one.http.unwrap(), "GET", "/metrics", &[("x-api-key", &admin)], b"").text();
    let lag = format!("hilum_lag_records{{stream=\"hl7.in\",partition=\"{at}\"}} 0");
    assert!(metrics.contains(&lag), "{metrics}");
    let fold = doctor(&one.data).into_iter().find(|one| one.1 == "fold").unwrap();
    assert_eq!(fold.0, "ok", "{fold:?}");

    // Somebody deletes it.
    kafka.tool(TOPICS, &["--delete", "--topic", &topic]);
    wait("its partitions are paused by name", 60, || {
        let said = paused(&one);
        let is_all = said.len() == 8
            && said.iter().all(|(stream, number, cause, why)| {
                stream == "hl7.in" && (8..16).contains(number) && cause == "gone" && why.contains(&topic)
            });
        is_all.then_some(())
    });
    let lags = |server: &Server, at: u16| {
        let metrics = request(server.http.unwrap(), "GET", "/metrics", &[("x-api-key", &admin)], b"").text();
        let of = |metric: &str| {
            let name = format!("{metric}{{stream=\"hl7.in\",partition=\"{at}\"}} ");
            metrics.lines().find_map(|line| line.strip_prefix(&name)).map(str::to_owned).unwrap()
        };
        ["hilum_paused", "hilum_lag_records", "hilum_oldest_unapplied_seconds"].map(of)
    };
    for server in [&one, &gateway] {
        wait("what was seen of it last is not said any more", 30, || {
            (lags(server, at) == ["1", "NaN", "NaN"]).then_some(())
        });
        assert_eq!(lags(server, 0)[0], "0", "the others go on");
    }
    let row = of_it(&one, at);
    assert!(row["lag"].is_null() && row["end"].is_null() && row["paused"].is_string(), "{row}");
    let sources = json(&one, "/api/sources", &viewer);
    assert!(sources["lag"].is_null(), "nobody knows how much is not applied: {sources}");
    let page = request(one.http.unwrap(), "GET", "/sources", &html, b"").text();
    assert!(page.contains("not known"), "{page}");
    wait("nothing is acknowledged for it", 30, || (post(&gateway, &ed, &a01("E4")) == 503).then_some(()));
    let (status, said) = state(&gateway);
    assert_eq!(status, 200, "a gateway is there for the others: {said}");
    assert!(said["notes"].to_string().contains(&format!("topic {topic} is gone")), "{said}");
    for n in 2..5 {
        assert_eq!(post(&gateway, &lab, &a01(&format!("L{n}"))), 200, "the other sources go on");
    }
    on_board(8);
    let finding = doctor(&one.data).into_iter().find(|one| one.2.contains(&topic)).unwrap();
    assert!(finding.2.contains("how much there is to apply is not known"), "{finding:?}");
    assert!(finding.3.contains("restore the topic") && finding.3.contains("--behind keep"), "{finding:?}");
    let late = sibling(&folder);
    assert!(Server::try_start(&late, &start).is_none(), "nor does a process begin");
    let said = std::fs::read_to_string(late.path().join("stderr")).unwrap();
    assert!(said.contains(&format!("topic {topic} is gone")), "{said}");

    // Another one of that name: what stood in it is missed, and nothing that comes is taken for it.
    let made = [
        "--create",
        "--topic",
        &topic,
        "--partitions",
        "8",
        "--config",
        "retention.ms=-1",
        "--config",
        "max.message.bytes=20000000",
        "--config",
        "flush.messages=1",
        "--config",
        "message.timestamp.type=LogAppendTime",
    ];
    kafka.tool(TOPICS, &made);
    let discharge = a01("E1").replace("ADT^A01", "ADT^A03").replace("|E1|", "|E9|");
    wait("it is taken again", 30, || (post(&gateway, &ed, &discharge) == 200).then_some(()));
    wait("its partition waits for somebody to decide", 60, || {
        let is_it = |(_, number, cause, _): &(String, u64, String, String)| {
            *number == u64::from(at) && cause == "other-log"
        };
        paused(&one).iter().any(is_it).then_some(())
    });
    std::thread::sleep(std::time::Duration::from_secs(4));
    for server in [&one, &gateway] {
        assert_eq!(lags(server, at), ["1", "NaN", "NaN"], "another one of its name tells nothing of it");
    }
    assert!(of_it(&one, at)["lag"].is_null());
    assert!(paused(&one).iter().any(|(_, number, ..)| *number == u64::from(at)), "and goes on waiting");
    assert_eq!(patients(&one, &viewer), 8, "E1 is here as far as anybody knows");
    gateway.stop();
    one.stop();
    let config_file = folder.path().join("hilum.toml");
    let (data, config_file) = (folder.path().join("data"), config_file.to_str().unwrap());
    let data = data.to_str().unwrap();
    let kept = run(&["rebuild", "chart", "--behind", "keep", "--data", data, "--config", config_file]);
    let said = String::from_utf8_lossy(&kept.stderr).into_owned();
    assert!(matches!(kept.status.code(), Some(0 | 3)), "{said}");
    let one = Server::start(&folder, &Start { config: &with_topic, ..Start::default() });
    wait("ready", 40, || (state(&one).0 == 200).then_some(()));
    assert_eq!(patients(&one, &viewer), 7, "what stood stays, and what came since is applied: E1 has gone");

    // A correction stands where the message does that it corrects, though its source has another topic by now.
    let session = Session::sign_in(&one, "hana", "operator");
    let of_q0 = || json(&one, "/api/messages?control_id=Q0", &viewer)["messages"].as_array().unwrap().clone();
    let set_aside = of_q0()[0].clone();
    let edit = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("text", a40("Q0", "E0", "").as_str()), ("reason", "tried again")])
        .finish();
    let id = set_aside["id"].as_str().unwrap();
    let answer = session.send(&one, "POST", &format!("/quarantine/{id}/replay"), &edit);
    assert_eq!(answer.status, 303, "{}", answer.text());
    let both = wait("both are there", 20, || Some(of_q0()).filter(|both| both.len() == 2));
    let place = |one: &Value| one["position"].as_str().unwrap().rsplit_once('/').unwrap().0.to_owned();
    assert_eq!(place(&both[0]), place(&both[1]), "{both:?}");
    assert_eq!(post(&one, &ed, &a40("Q1", "E0", "")), 200);
    assert!(partition_of(&one, &viewer, "Q1") >= 8, "what comes goes to the source's own");
    one.stop();
}
