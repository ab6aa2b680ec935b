//! A small house for tests: an embedded log, tables of either engine, the projection and its runners.
#![allow(dead_code, clippy::unwrap_used, clippy::string_slice)]

pub mod stream;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use hilum_adt::decision::Decision;
use hilum_adt::project::Adt;
use hilum_adt::settings::SourceSettings;
use hilum_adt::view::journey::Sight;
use hilum_adt::{identity, tables as adt};
use hilum_chart::rebuild::{Damaged, Report, rebuild};
use hilum_chart::{Chart, Progress, Runner, resources};
use hilum_core::{
    Authority, Clock, ContentType, Digest, Entropy, Envelope, Id, InstallationKey, RecordId, Seq, SourceName,
    Stream, Timestamp,
};
use hilum_engines::log::{Log, embedded};
use hilum_engines::tables::{Read, Row, Scan, Table, Tables, Value, postgres, sqlite};

/// 2026-04-01T00:00:00Z: behind what the stories of March say.
const START: i64 = 1_775_001_600_000_000;

pub struct House {
    dir: tempfile::TempDir,
    pub log: Log,
    pub tables: Tables,
    pub clock: Clock,
    pub entropy: Entropy,
    pub key: InstallationKey,
    pub projection: Arc<Adt>,
    pub settings: SourceSettings,
    now: Arc<AtomicI64>,
}

/// How long to look: the tester's to say.
#[allow(clippy::disallowed_methods)]
pub fn how_many(name: &str, usually: u64) -> u64 {
    std::env::var(name).ok().and_then(|many| many.parse().ok()).unwrap_or(usually)
}

pub fn schema() -> Vec<&'static Table> {
    let mut all: Vec<&'static Table> = adt::TABLES.to_vec();
    all.extend(resources::TABLES);
    all
}

pub fn sqlite_tables() -> Tables {
    Tables::Sqlite(
        sqlite::Sqlite::open(sqlite::Place::Memory, &schema(), sqlite::Options::default()).unwrap(),
    )
}

pub async fn postgres_tables() -> Tables {
    let server = hilum_testkit::postgres::Postgres::shared();
    let config = postgres::PostgresConfig {
        pool_size: 4,
        ..postgres::PostgresConfig::new(server.url(), server.fresh_schema())
    };
    Tables::Postgres(postgres::Postgres::open(config, &schema()).await.unwrap())
}

fn open_log(path: &std::path::Path, clock: &Clock, entropy: &Entropy) -> Log {
    let options = embedded::Options { disk_reserve_ratio: 0.0, ..embedded::Options::default() };
    Log::Embedded(embedded::Embedded::open(path, clock.clone(), entropy.clone(), options).unwrap())
}

impl House {
    /// What `authority` sees of it.
    pub fn sight<'h>(&'h self, chart: &'h Chart, authority: &'h Authority) -> Sight<'h> {
        Sight { tables: &self.tables, log: &self.log, chart, key: &self.key, authority }
    }

    pub fn new() -> Self {
        Self::with(sqlite_tables(), SourceSettings::default(), 1)
    }

    pub fn with_settings(settings: SourceSettings) -> Self {
        Self::with(sqlite_tables(), settings, 1)
    }

    pub fn with(tables: Tables, settings: SourceSettings, seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(START));
        let clock = {
            let now = Arc::clone(&now);
            Clock::new(move || Timestamp::from_micros(now.fetch_add(1_000, Ordering::Relaxed)))
        };
        let entropy = Entropy::seeded(seed);
        let log = open_log(&dir.path().join("log.sqlite"), &clock, &entropy);
        let key = InstallationKey::new([7; 32]);
        let projection = Arc::new(Adt::new(key.clone(), clock.clone()));
        projection.know(settings.sha(), settings.clone());
        Self { dir, log, tables, clock, entropy, key, projection, settings, now }
    }

    fn envelope(
        &self,
        stream: Stream,
        source: &str,
        content_type: ContentType,
        body: Bytes,
        key: Id,
    ) -> Envelope {
        let received = self.clock.now();
        Envelope {
            v: Envelope::VERSION,
            id: self.entropy.record_id(received),
            stream,
            source: SourceName::parse(source).unwrap(),
            settings_sha: self.settings.sha(),
            received,
            peer: None,
            digest: Digest::of(&body),
            key,
            content_type,
            charset_rule: None,
            replaces: None,
            cipher_key: None,
            trace: None,
            body,
        }
    }

    /// The partition key: what PID-3 says, as a door would take it.
    fn partition_key(&self, raw: &[u8]) -> Id {
        let text = String::from_utf8_lossy(raw).into_owned();
        let pid = text.split('\r').find(|segment| segment.starts_with("PID"));
        let number = pid.and_then(|pid| pid.split('|').nth(3)).unwrap_or_default();
        self.key.id("Partition", &[number.as_bytes()])
    }

    pub async fn send(&self, raw: &str) -> RecordId {
        self.send_as("default", raw.as_bytes(), None).await
    }

    pub async fn send_as(&self, source: &str, raw: &[u8], replaces: Option<RecordId>) -> RecordId {
        let key = self.partition_key(raw);
        let body = Bytes::copy_from_slice(raw);
        let mut envelope = self.envelope(Stream::Hl7In, source, ContentType::Hl7v2, body, key);
        envelope.replaces = replaces;
        let id = envelope.id;
        self.log.append(envelope).await.unwrap();
        id
    }

    pub async fn send_all(&self, raws: &[String]) {
        let all = raws.iter().map(|raw| self.send(raw));
        futures::future::join_all(all).await;
    }

    pub async fn decide(&self, decision: &Decision) -> RecordId {
        let body = Bytes::from(decision.to_bytes());
        let key = self.key.id("Partition", &[&body]);
        let envelope = self.envelope(Stream::Decisions, "operator", ContentType::Decision, body, key);
        let id = envelope.id;
        self.log.append(envelope).await.unwrap();
        id
    }

    pub fn pass_time(&self, seconds: i64) {
        self.now.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    pub fn runners(&self) -> Vec<Runner<Adt>> {
        let progress = Progress::new("adt", self.log.places(&Stream::ALL));
        let mut runners = Vec::new();
        for stream in [Stream::Decisions, Stream::Hl7In] {
            for partition in 0..self.log.partitions(Stream::Hl7In) {
                runners.push(Runner::new(
                    Arc::clone(&self.projection),
                    self.log.clone(),
                    self.tables.clone(),
                    self.clock.clone(),
                    (stream, partition),
                    progress.clone(),
                ));
            }
        }
        runners
    }

    /// Applies all that is in the log.
    pub async fn run(&self) {
        self.run_in_batches_of(usize::MAX).await;
    }

    pub async fn run_in_batches_of(&self, records: usize) {
        use hilum_chart::runner::Stepped;
        for runner in self.runners() {
            let mut runner = if records == usize::MAX { runner } else { runner.batches_of(records) };
            while runner.step().await.unwrap() != Stepped::Idle {}
        }
    }

    /// As [`House::run`], but tries again what cannot be read.
    pub async fn run_to_the_end(&self) {
        for mut runner in self.runners() {
            runner.run_until(u64::MAX, |_| {}).await.unwrap();
        }
    }

    /// Makes all rows again from the log.
    pub async fn rebuild(&self) -> Report {
        let (beside, done) = (sqlite_tables(), |_: u64, _: u64| {});
        let rebuilt =
            rebuild(&self.projection, &self.log, &self.tables, &beside, &self.clock, Damaged::Refuse, &done);
        rebuilt.await.unwrap()
    }

    /// Flips one bit of a record, on the disk.
    pub async fn flip_a_bit(&mut self, record: RecordId) -> Vec<usize> {
        let path = self.dir.path().join("log.sqlite");
        self.log.close().await;
        self.log = open_log(&self.dir.path().join("another.sqlite"), &self.clock, &self.entropy);
        let places = hilum_testkit::disk::flip_bit(&path, record.to_string().as_bytes());
        self.log = open_log(&path, &self.clock, &self.entropy);
        places
    }

    /// Mends what [`House::flip_a_bit`] damaged.
    pub fn flip_back(&self, places: &[usize]) {
        hilum_testkit::disk::flip_bits_at(&self.dir.path().join("log.sqlite"), places);
    }

    pub async fn rows(&self, table: &'static Table) -> Vec<Row> {
        let mut all: Vec<Row> = Vec::new();
        loop {
            let mut scan = Scan::by_key(table.name, Vec::new());
            scan.after = all.last().map(|row| row.values[..table.key_len].to_vec());
            let rows = self.tables.read(&[Read::Scan(scan)]).await.unwrap().pop().unwrap();
            if rows.is_empty() {
                return all;
            }
            all.extend(rows);
        }
    }

    /// Rows as maps of column to text; `Seq` columns are left out, for they tell of commits.
    pub async fn table(&self, table: &'static Table) -> Vec<BTreeMap<&'static str, String>> {
        let show = |row: Row| {
            let cells = table.columns.iter().zip(row.values);
            let cells = cells.filter(|(_, value)| !matches!(value, Value::Seq(_)));
            cells.map(|(column, value)| (column.name, shown(&value))).collect()
        };
        self.rows(table).await.into_iter().map(show).collect()
    }

    pub async fn board(&self) -> Vec<BTreeMap<&'static str, String>> {
        self.table(&adt::BOARD).await
    }

    /// The board as lines `list unit/room/bed class status name marks`, in order.
    pub async fn census(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.board().await.iter().map(line).collect();
        lines.sort();
        lines
    }

    pub async fn messages(&self) -> Vec<BTreeMap<&'static str, String>> {
        self.table(&adt::MESSAGE).await
    }

    pub async fn message(&self, record: RecordId) -> BTreeMap<&'static str, String> {
        let id = record.to_string();
        self.messages().await.into_iter().find(|row| row["id"] == id).unwrap()
    }

    pub async fn work(&self) -> Vec<BTreeMap<&'static str, String>> {
        self.table(&adt::WORK).await
    }

    pub async fn encounters(&self) -> Vec<BTreeMap<&'static str, String>> {
        self.table(&adt::ENCOUNTER).await
    }

    pub async fn encounter(&self, visit_number: &str) -> BTreeMap<&'static str, String> {
        let found = self.encounters().await.into_iter().find(|row| row["visit_number"] == visit_number);
        found.unwrap_or_else(|| panic!("no encounter {visit_number}"))
    }

    pub fn patient_id(&self, value: &str) -> Id {
        identity::number_id(&self.key, "H", value)
    }

    /// All current resources, one per line, and the board, encounters, work and numbers: what must not depend on order.
    pub async fn canonical(&self) -> String {
        let mut text = String::new();
        let chart = Chart::open(self.tables.clone(), self.clock.clone());
        let hash = chart.canonical_hash(&Authority::system("test"), &[]).await.unwrap();
        writeln!(text, "{hash}").unwrap();
        for (resource_type, body) in self.bodies().await {
            writeln!(text, "{resource_type}: {body}").unwrap();
        }
        let mut tables: Vec<&'static Table> = adt::OF_FAMILY.to_vec();
        tables.extend([&adt::BOARD, &adt::WORK, &adt::BED]);
        for table in tables {
            for row in self.table(table).await {
                writeln!(text, "{}: {row:?}", table.name).unwrap();
            }
        }
        text
    }

    pub async fn now(&self) -> Seq {
        self.tables.now().await.unwrap()
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Time(at) => at.to_string(),
        Value::Null
        | Value::Seq(_)
        | Value::ThisCommit
        | Value::ThisCommitNth(_)
        | Value::ThisMoment
        | Value::ThisSnapshot => String::new(),
        Value::Id(id) => id.to_string(),
        Value::Text(text) => text.clone(),
        Value::Bytes(bytes) => format!("{bytes:02x?}"),
    }
}

fn line(row: &BTreeMap<&'static str, String>) -> String {
    let marks: Vec<String> = serde_json::from_str(&row["marks"]).unwrap();
    let place = [&row["unit"], &row["room"], &row["bed"]].map(String::as_str).join("-");
    let line = format!(
        "{} {place} {} {} {} {}",
        row["list"],
        row["class"],
        row["status"],
        row["name"],
        marks.join(",")
    );
    line.trim_end().to_owned()
}

/// One message in short: `A01`, control id, time, patient number, visit number, then further segments. Times are
/// `DDHHMM` of March 2026.
pub struct Msg {
    event: &'static str,
    control: String,
    sent: String,
    evn2: Option<String>,
    evn6: Option<String>,
    pid3: String,
    name: String,
    born: String,
    sex: String,
    class: String,
    place: String,
    visit: String,
    pv1: BTreeMap<usize, String>,
    pid: BTreeMap<usize, String>,
    extra: Vec<String>,
    no_pv1: bool,
}

pub fn time(short: &str) -> String {
    if short.len() == 6 { format!("202603{short}00") } else { short.to_owned() }
}

impl Msg {
    pub fn new(event: &'static str, control: &str, at: &str, patient: &str, visit: &str) -> Self {
        Self {
            event,
            control: control.to_owned(),
            sent: time(at),
            evn2: Some(time(at)),
            evn6: None,
            pid3: if patient.is_empty() { String::new() } else { format!("{patient}^^^H^MR") },
            name: "Kim^Min".to_owned(),
            born: "19800101".to_owned(),
            sex: "F".to_owned(),
            class: "I".to_owned(),
            place: String::new(),
            visit: if visit.is_empty() { String::new() } else { format!("{visit}^^^H^VN") },
            pv1: BTreeMap::new(),
            pid: BTreeMap::new(),
            extra: Vec::new(),
            no_pv1: false,
        }
    }

    pub fn event(mut self, event: &'static str) -> Self {
        self.event = event;
        self
    }
    pub fn at(self, place: &str) -> Self {
        Self { place: place.to_owned(), ..self }
    }
    pub fn class(self, class: &str) -> Self {
        Self { class: class.to_owned(), ..self }
    }
    pub fn event_time(mut self, at: &str) -> Self {
        self.evn6 = Some(time(at));
        self
    }
    pub fn recorded(mut self, at: &str) -> Self {
        self.evn2 = Some(time(at));
        self
    }
    pub fn no_evn2(mut self) -> Self {
        self.evn2 = None;
        self
    }
    pub fn name(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }
    pub fn born(self, born: &str) -> Self {
        Self { born: born.to_owned(), ..self }
    }
    pub fn sex(self, sex: &str) -> Self {
        Self { sex: sex.to_owned(), ..self }
    }
    pub fn pid3(self, pid3: &str) -> Self {
        Self { pid3: pid3.to_owned(), ..self }
    }
    pub fn pid(mut self, field: usize, value: &str) -> Self {
        self.pid.insert(field, value.to_owned());
        self
    }
    pub fn pv1(mut self, field: usize, value: &str) -> Self {
        self.pv1.insert(field, value.to_owned());
        self
    }
    pub fn with(mut self, segment: &str) -> Self {
        self.extra.push(segment.to_owned());
        self
    }
    pub fn without_pv1(mut self) -> Self {
        self.no_pv1 = true;
        self
    }

    fn segment(name: &str, mut fields: BTreeMap<usize, String>) -> String {
        let last = fields.keys().max().copied().unwrap_or(0);
        let mut text = name.to_owned();
        for field in 1..=last {
            text.push('|');
            text.push_str(&fields.remove(&field).unwrap_or_default());
        }
        text
    }

    fn pid_and_pv1(&self) -> Vec<String> {
        let mut pid = BTreeMap::from([
            (1, "1".to_owned()),
            (3, self.pid3.clone()),
            (5, self.name.clone()),
            (7, self.born.clone()),
            (8, self.sex.clone()),
        ]);
        pid.extend(self.pid.clone());
        let mut pv1 = BTreeMap::from([
            (1, "1".to_owned()),
            (2, self.class.clone()),
            (3, self.place.clone()),
            (19, self.visit.clone()),
        ]);
        pv1.extend(self.pv1.clone());
        let mut segments = vec![Self::segment("PID", pid)];
        let (before, after): (Vec<_>, Vec<_>) =
            self.extra.iter().cloned().partition(|one| one.starts_with("MRG"));
        segments.extend(before);
        if !self.no_pv1 {
            segments.push(Self::segment("PV1", pv1));
        }
        segments.extend(after);
        segments
    }

    pub fn text(&self) -> String {
        self.with_second(None)
    }

    /// With another patient behind (A17, A24).
    pub fn with_second(&self, second: Option<&Self>) -> String {
        let evn = BTreeMap::from([
            (2, self.evn2.clone().unwrap_or_default()),
            (6, self.evn6.clone().unwrap_or_default()),
        ]);
        let mut segments = vec![
            format!("MSH|^~\\&|APP|H|HILUM|H|{}||ADT^{}|{}|P|2.5", self.sent, self.event, self.control),
            Self::segment("EVN", evn),
        ];
        segments.extend(self.pid_and_pv1());
        segments.extend(second.into_iter().flat_map(Self::pid_and_pv1));
        segments.join("\r") + "\r"
    }
}

impl House {
    /// All current resources: type and body.
    pub async fn bodies(&self) -> Vec<(String, String)> {
        let chart = Chart::open(self.tables.clone(), self.clock.clone());
        let authority = Authority::system("test");
        let mut all = Vec::new();
        for row in self.rows(&resources::RESOURCE).await {
            let (Value::Text(kind), Value::Id(id), Value::Bool(deleted)) =
                (&row.values[0], &row.values[1], &row.values[5])
            else {
                panic!("a row of resources");
            };
            if !deleted {
                let stored = chart.read(&authority, kind, *id).await.unwrap();
                all.push((kind.clone(), stored.text().unwrap().to_owned()));
            }
        }
        all
    }

    /// All current resources of a type, as JSON.
    pub async fn resources(&self, resource_type: &str) -> Vec<serde_json::Value> {
        let bodies = self.bodies().await.into_iter().filter(|(kind, _)| kind == resource_type);
        bodies.map(|(_, body)| serde_json::from_str(&body).unwrap()).collect()
    }

    pub async fn resource(&self, resource_type: &str, id: Id) -> serde_json::Value {
        let id = id.to_string();
        let found = self.resources(resource_type).await.into_iter().find(|one| one["id"] == id);
        found.unwrap_or_else(|| panic!("no {resource_type}/{id}"))
    }
}

impl House {
    /// The envelopes of a stream, made once: the same record ids go into every house.
    pub fn envelopes(&self, raws: &[String]) -> Vec<Envelope> {
        let make = |raw: &String| {
            let key = self.partition_key(raw.as_bytes());
            self.envelope(
                Stream::Hl7In,
                "default",
                ContentType::Hl7v2,
                Bytes::copy_from_slice(raw.as_bytes()),
                key,
            )
        };
        raws.iter().map(make).collect()
    }

    /// The same message once more, as its sender would send it again.
    pub fn copy_of(&self, envelope: &Envelope) -> Envelope {
        let received = self.clock.now();
        Envelope { id: self.entropy.record_id(received), received, ..envelope.clone() }
    }

    /// An operator's correction of a record.
    pub fn correction_of(&self, envelope: &Envelope, raw: &str) -> Envelope {
        let mut corrected = self.copy_of(envelope);
        corrected.body = Bytes::copy_from_slice(raw.as_bytes());
        corrected.digest = Digest::of(&corrected.body);
        corrected.replaces = Some(envelope.id);
        corrected
    }

    pub fn decision(&self, decision: &Decision) -> Envelope {
        let body = Bytes::from(decision.to_bytes());
        let key = self.key.id("Partition", &[&body]);
        self.envelope(Stream::Decisions, "operator", ContentType::Decision, body, key)
    }

    pub async fn append_all(&self, envelopes: &[Envelope]) {
        let all = envelopes.iter().map(|envelope| self.log.append(envelope.clone()));
        for done in futures::future::join_all(all).await {
            done.unwrap();
        }
    }
}
