//! Traces: what a collector hears of a message, and what it never does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use tempfile::tempdir;

use crate::canary::{CANARY, sung};
use crate::many::{config, patients, sibling};
use crate::server::{Server, Start, a01, field, frame, request, run, wait};

/// One span as the collector has it.
#[derive(Debug, Clone)]
struct Heard {
    name: String,
    trace: String,
    id: String,
    parent: String,
    start: u64,
    end: u64,
    failed: String,
    says: BTreeMap<String, String>,
    /// Who told it.
    roles: String,
}

#[derive(Default)]
struct State {
    spans: Mutex<Vec<Heard>>,
    raw: Mutex<Vec<u8>>,
    heads: Mutex<Vec<String>>,
    /// The status that it answers with; 0: it never answers.
    status: AtomicU16,
    requests: AtomicU16,
}

/// A collector: OTLP over HTTP, on a port of its own.
struct Collector {
    address: SocketAddr,
    state: Arc<State>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn said(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |one: &KeyValue| match one.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|one| (one.key.clone(), text(one))).collect()
}

impl State {
    fn hear(&self, request: &ExportTraceServiceRequest) {
        for of_resource in &request.resource_spans {
            let resource = said(&of_resource.resource.as_ref().unwrap().attributes);
            assert_eq!(resource["service.name"], "hilum");
            for span in of_resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
                self.spans.lock().unwrap().push(Heard {
                    name: span.name.clone(),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                    failed: span.status.as_ref().map(|status| status.message.clone()).unwrap_or_default(),
                    says: said(&span.attributes),
                    roles: resource["hilum.roles"].clone(),
                });
            }
        }
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut head, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line)? > 2 {
            head.push_str(&line);
            line.clear();
        }
        let length = head.to_ascii_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        let mut body = vec![0; length.trim().parse().unwrap()];
        reader.read_exact(&mut body)?;
        self.requests.fetch_add(1, Ordering::SeqCst);
        let status = self.status.load(Ordering::SeqCst);
        if status == 0 {
            // Nothing more comes: until the other end has had enough.
            reader.read_to_end(&mut body)?;
            return Ok(());
        }
        let mut answer = ExportTraceServiceResponse::default();
        if status == 200 {
            let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
            self.hear(&request);
            self.raw.lock().unwrap().extend(body);
            self.heads.lock().unwrap().push(head);
        } else if status == 206 {
            let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "no".to_owned() };
            answer.partial_success = Some(partial);
        }
        let body = answer.encode_to_vec();
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status} x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        )?;
        stream.write_all(&body)
    }
}

impl Collector {
    fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { status: status.into(), ..State::default() });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.serve(stream));
            }
        });
        Self { address, state }
    }

    fn config(&self, sample: &str) -> String {
        format!("[telemetry]\notlp = \"http://{}\"\nsample = {sample}\n", self.address)
    }

    fn of(&self, trace: &str) -> Vec<Heard> {
        self.all().into_iter().filter(|span| span.trace == trace).collect()
    }

    fn all(&self) -> Vec<Heard> {
        self.state.spans.lock().unwrap().clone()
    }

    /// The first span of this name that `is` true of.
    fn wait(&self, name: &str, is: impl Fn(&Heard) -> bool) -> Heard {
        let is = |span: &Heard| span.name == name && is(span);
        wait(&format!("a span {name}"), 20, || self.all().into_iter().find(is))
    }
}

fn one<'a>(trace: &'a [Heard], name: &str) -> &'a Heard {
    let mut found = trace.iter().filter(|span| span.name == name);
    let first = found.next().unwrap_or_else(|| panic!("no {name} in {trace:#?}"));
    assert!(found.next().is_none(), "two of {name} in {trace:#?}");
    first
}

/// Received, appended, acknowledged, applied, committed: one tree, and each step where it belongs.
fn check_whole(trace: &[Heard]) {
    let names: Vec<&str> = trace.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    let [receive, parse, append, acknowledge, apply, commit] =
        ["receive", "parse", "append", "acknowledge", "apply", "commit"].map(|name| one(trace, name));
    for part in [parse, append, acknowledge] {
        assert_eq!(part.parent, receive.id, "{part:?}");
        assert!(receive.start <= part.start && part.end <= receive.end, "{part:?} in {receive:?}");
    }
    assert_eq!((&apply.parent, &commit.parent), (&append.id, &apply.id));
    for (before, after) in [(parse, append), (append, acknowledge), (append, apply), (apply, commit)] {
        assert!(before.start <= after.start && before.start <= before.end, "{before:?} then {after:?}");
    }
    assert!(parse.end <= append.start && append.end <= acknowledge.start && apply.end <= commit.start);
    assert!(trace.iter().all(|span| span.failed.is_empty() && !span.says["hilum.record"].is_empty()));
    assert_eq!(
        (receive.says["hilum.source"].as_str(), receive.says["hilum.outcome"].as_str()),
        ("default", "accepted")
    );
    assert_eq!(
        (apply.says["hilum.outcome"].as_str(), apply.says["hilum.stream"].as_str()),
        ("applied", "hl7.in")
    );
    assert!(commit.says["hilum.commit"].parse::<u64>().unwrap() > 0);
}

/// What `/metrics` says of one metric, over all its labels.
fn metric(server: &Server, name: &str) -> f64 {
    let text = request(server.http.unwrap(), "GET", "/metrics", &[], b"").text();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// With bytes that no charset explains.
fn unreadable(message: &str) -> Vec<u8> {
    [message.as_bytes(), b"NTE|1||\xb0\xa1\xff\xfe\r"].concat()
}

#[test]
fn a_message_is_one_trace_from_the_door_to_the_commit() {
    let collector = Collector::start(200);
    let folder = tempdir().unwrap();
    let config = collector.config("1.0") + "headers = { x-tenant = \"ward\" }\n";
    let server = Server::start(&folder, &Start { config: &config, ..Start::default() });
    let key = server.key("his", "admin");

    assert_eq!(field(&server.connect().ask(&a01("T1")), "MSA", 1), "AA");
    let commit = collector.wait("commit", |_| true);
    let trace =
        wait("the whole trace", 20, || Some(collector.of(&commit.trace)).filter(|all| all.len() == 6));
    check_whole(&trace);
    // It is found by the record's id.
    assert_eq!(commit.says["hilum.record"].replace('-', ""), commit.trace);
    assert_eq!(commit.roles, "gateway,worker,reader");
    assert!(collector.state.heads.lock().unwrap().iter().all(|head| {
        head.starts_with("POST /v1/traces HTTP/1.1\r\n")
            && head.to_ascii_lowercase().contains("x-tenant: ward")
    }));

    // Whoever sends by HTTP may go on with a trace of his own.
    let theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("x-api-key", &*key), ("content-type", "application/hl7-v2"), ("traceparent", theirs)];
    assert_eq!(request(server.http.unwrap(), "POST", "/hl7v2", &headers, a01("T2").as_bytes()).status, 200);
    let theirs = "4bf92f3577b34da6a3ce929d0e0e4736";
    let trace = wait("their trace", 20, || Some(collector.of(theirs)).filter(|all| all.len() == 6));
    check_whole(&trace);
    assert_eq!(one(&trace, "receive").parent, "00f067aa0ba902b7");

    // Whatever a message says, the collector hears none of it.
    let mut mllp = server.connect();
    let bodies = [
        sung(&[]),
        sung(&["MSH-9"]),
        sung(&["MSH-10"]),
        sung(&["MSH-18"]),
        sung(&["MSH-18", "PID-3"]),
        sung(&["MSH-18"]).replacen("ADT^A01^ADT_A01", &format!("{CANARY}^{CANARY}"), 1),
        sung(&["MSH-18"]).replacen("MSH|", "PID|", 1),
    ];
    let mut bodies = bodies.map(String::into_bytes).to_vec();
    bodies.push(unreadable(&sung(&["MSH-18"])));
    for body in &bodies {
        mllp.write(&frame(body));
        if mllp.try_answer().is_none() {
            mllp = server.connect();
        }
        let sings = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-{CANARY}");
        let headers =
            [("x-api-key", &*key), ("content-type", "application/hl7-v2"), ("traceparent", &*sings)];
        request(server.http.unwrap(), "POST", "/hl7v2", &headers, body);
    }
    collector.wait("apply", |span| span.says["hilum.outcome"] == "quarantined");
    // What is told last is handed over by a stop at once.
    assert_eq!(field(&server.connect().ask(&a01("LAST")), "MSA", 1), "AA");
    let before = collector.all().iter().filter(|span| span.name == "receive").count();
    assert!(metric(&server, "hilum_trace_spans_total") > 12.0);
    assert!(metric(&server, "hilum_trace_spans_dropped_total") < 1.0);
    server.stop();
    let after = collector.all();
    assert!(after.iter().filter(|span| span.name == "receive").count() > before, "{}", after.len());
    let raw = collector.state.raw.lock().unwrap();
    let heard = String::from_utf8_lossy(&raw);
    assert!(heard.contains("receive") && !heard.contains(CANARY), "a message in a span");
    assert!(!heard.contains("길동") && !heard.contains("0T1"), "nor of the others");
}

#[test]
fn the_odd_ones_are_told_whoever_chose() {
    let collector = Collector::start(200);
    let folder = tempdir().unwrap();
    let config = collector.config("0.0");
    let server = Server::start(&folder, &Start { config: &config, ..Start::default() });
    let mut mllp = server.connect();
    assert_eq!(field(&mllp.ask(&a01("PLAIN")), "MSA", 1), "AA");
    assert_eq!(field(&mllp.ask(&a01("REFUSED").replace("ADT^A01^ADT_A01", "")), "MSA", 1), "AR");
    // Taken, and set aside.
    mllp.write(&frame(&unreadable(&a01("ASIDE"))));
    assert_eq!(field(&mllp.answer(), "MSA", 1), "AA");
    let aside = collector.wait("apply", |span| span.says["hilum.outcome"] == "quarantined");
    assert_eq!(aside.says["hilum.rule"], "charset-undecided");
    // Only the fold sees that nobody knows which event it is: the door had not chosen it.
    assert_eq!(field(&mllp.ask(&a01("EVENT").replace("ADT^A01^ADT_A01", "ADT^?")), "MSA", 1), "AA");
    let unknown = collector
        .wait("apply", |span| span.says.get("hilum.rule").is_some_and(|rule| rule == "event.unknown"));
    assert_eq!((unknown.parent.len(), collector.of(&unknown.trace).len()), (16, 2));
    let refused = collector.wait("receive", |span| span.says["hilum.outcome"] == "refused");
    assert!(collector.of(&refused.trace).iter().any(|span| span.name == "acknowledge"));
    server.stop();
    let told = collector.all();
    let of = |name: &str| told.iter().filter(|span| span.name == name).count();
    assert_eq!((of("receive"), of("apply"), of("commit")), (2, 3, 3), "not the plain one: {told:#?}");
}

#[test]
fn a_trace_goes_through_kafka_to_another_process() {
    let collector = Collector::start(200);
    let (kafka, postgres) = (Kafka::shared(), Postgres::start(&[]));
    let engines = config(kafka, &postgres);
    let config = format!("{engines}\n{}", collector.config("1.0"));
    let first = tempdir().unwrap();
    let part = |folder, roles| {
        let arguments: &[&str] = &["--roles", roles];
        Server::start(folder, &Start { config: &config, arguments, ..Start::default() })
    };
    let worker = part(&first, "worker");
    let (gateway_folder, reader_folder) = (sibling(&first), sibling(&first));
    let (gateway, reader) = (part(&gateway_folder, "gateway"), part(&reader_folder, "reader"));
    let viewer = reader.key("viewer", "viewer");
    assert_eq!(field(&gateway.connect().ask(&sung(&["MSH-18"])), "MSA", 1), "AA");
    assert_eq!(field(&gateway.connect().ask(&a01("K1")), "MSA", 1), "AA");
    wait("both on the board", 30, || (patients(&reader, &viewer) == 2).then_some(()));
    let applied = collector.wait("commit", |_| true);
    let trace =
        wait("the whole trace", 20, || Some(collector.of(&applied.trace)).filter(|all| all.len() == 6));
    check_whole(&trace);
    for (name, roles) in
        [("receive", "gateway"), ("append", "gateway"), ("apply", "worker"), ("commit", "worker")]
    {
        assert_eq!(one(&trace, name).roles, roles);
    }

    // Whoever else reads the topic finds the step that he goes on from, as the standard names it.
    let (_, rest) = engines.split_once("prefix = \"").unwrap();
    let topic = format!("{}.hl7.in", rest.split('"').next().unwrap());
    let out = Command::new("kcat")
        .args(["-C", "-q", "-e", "-b", &kafka.brokers(), "-t", &topic, "-f", "%h\\n"])
        .output()
        .unwrap();
    let headers = String::from_utf8_lossy(&out.stdout).into_owned();
    let want = format!("traceparent=00-{}-{}-01", applied.trace, one(&trace, "append").id);
    assert!(headers.contains(&want), "{want}: {headers}");

    // A partition that stands still says so, and again when it goes on.
    postgres.kill();
    assert_eq!(field(&gateway.connect().ask(&a01("K2")), "MSA", 1), "AA");
    let paused = collector.wait("apply", |span| span.says["hilum.outcome"] == "paused");
    assert_eq!(paused.failed, "engine");
    postgres.restart();
    let gone_on = collector.wait("apply", |span| span.says.contains_key("hilum.paused"));
    assert_eq!((gone_on.trace, gone_on.parent), (paused.trace, paused.parent));
    assert_eq!(gone_on.says["hilum.paused"], "engine");
    for server in [gateway, worker, reader] {
        server.stop();
    }
    let raw = collector.state.raw.lock().unwrap();
    assert!(!String::from_utf8_lossy(&raw).contains(CANARY), "a message in a span");
}

/// Nobody waits for a collector: neither one that is not there, nor one that never answers, nor one that wants nothing.
#[test]
fn a_collector_that_takes_nothing_holds_nobody_up() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (silent, refusing, partial) = (Collector::start(0), Collector::start(400), Collector::start(206));
    let away = Collector { address: gone, state: Arc::default() };
    for (why, collector) in
        [("gone", &away), ("silent", &silent), ("refuses", &refusing), ("takes all but one", &partial)]
    {
        let folder = tempdir().unwrap();
        let config = collector.config("1.0") + "traces_per_s_max = 100000\n";
        let server = Server::start(&folder, &Start { config: &config, ..Start::default() });
        let mut mllp = server.connect();
        let begun = Instant::now();
        // More spans than have room.
        let messages = if why == "silent" { 3_000 } else { 300 };
        let mut slowest = Duration::ZERO;
        for at in 0..messages {
            let sent = Instant::now();
            assert_eq!(field(&mllp.ask(&a01(&format!("A{at}"))), "MSA", 1), "AA", "{why}");
            slowest = slowest.max(sent.elapsed());
        }
        assert!(slowest < Duration::from_secs(4), "{why}: {slowest:?} of {:?}", begun.elapsed());
        match why {
            "silent" => wait("spans are dropped", 40, || {
                (metric(&server, "hilum_trace_spans_dropped_total{why=\"queue\"}") > 0.0).then_some(())
            }),
            "gone" => wait("it is said", 20, || server.said().contains("they wait").then_some(())),
            _ => wait("refused spans are counted", 20, || {
                (metric(&server, "hilum_trace_spans_dropped_total{why=\"refused\"}") > 0.0).then_some(())
            }),
        }
        let stopping = Instant::now();
        server.stop();
        assert!(stopping.elapsed() < Duration::from_secs(15), "{why}: {:?}", stopping.elapsed());
    }
    // One that comes back has what waited.
    let late = Collector::start(503);
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start { config: &late.config("1.0"), ..Start::default() });
    assert_eq!(field(&server.connect().ask(&a01("L1")), "MSA", 1), "AA");
    wait("it was asked", 20, || (late.state.requests.load(Ordering::SeqCst) > 0).then_some(()));
    late.state.status.store(200, Ordering::SeqCst);
    let commit = late.wait("commit", |_| true);
    check_whole(&wait("the whole trace", 20, || Some(late.of(&commit.trace)).filter(|all| all.len() == 6)));
    server.stop();
}

#[test]
fn nothing_is_told_by_itself_and_keys_are_masked() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    assert_eq!(field(&server.connect().ask(&a01("Q1")), "MSA", 1), "AA");
    assert!(!server.said().contains("traces are told"));
    server.stop();
    let file = folder.path().join("keys.toml");
    std::fs::write(&file, "[telemetry]\notlp = \"https://c:4318\"\nheaders = { x-key = \"geheim\" }\n")
        .unwrap();
    let out = run(&["config", "--config", file.to_str().unwrap()]);
    let shown = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(shown.contains("x-key") && !shown.contains("geheim"), "{shown}");
}
