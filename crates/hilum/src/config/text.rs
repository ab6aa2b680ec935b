//! The configuration as text: what applies, and the reference of every key.

use std::fmt::Write as _;

use serde_json::Value;

use super::keys::shape;

/// A URL with its password, and any `password=` parameter, replaced by `***`.
pub fn mask_url(url: &str) -> String {
    let mut masked = url.to_owned();
    if let Some((scheme, rest)) = url.split_once("://") {
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(authority_end);
        if let Some((user, host)) = authority.rsplit_once('@') {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            let had_password = authority.split_once('@').is_some_and(|(user, _)| user.contains(':'));
            let password = if had_password { ":***" } else { "" };
            masked = format!("{scheme}://{user}{password}@{host}{tail}");
        }
    }
    if let Some((before, after)) = masked.split_once("password=") {
        let tail = after.find(['&', ' ']).map_or("", |end| after.split_at(end).1);
        masked = format!("{before}password=***{tail}");
    }
    masked
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields: Vec<String> =
                map.iter().map(|(key, value)| format!("{} = {}", toml_key(key), toml_value(value))).collect();
            if fields.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", fields.join(", ")) }
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", "))
        }
        // A JSON string is a TOML basic string, but for DEL, which no key of ours can hold.
        Value::String(_) | Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Null => "\"\"".to_owned(),
    }
}

fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}

/// Sections of the tree are TOML tables; everything under a section is a value.
pub(super) fn write_table(out: &mut String, path: &str, tree: &Value) {
    let Value::Object(map) = tree else { return };
    let is_section = |key: &str| path.is_empty() || path == "sources" && !key.is_empty();
    // What stands behind a section's name belongs to the section.
    let mut in_order: Vec<_> = map.iter().collect();
    in_order.sort_by_key(|(key, value)| is_section(key) && value.is_object());
    for (key, value) in in_order {
        if is_section(key) && value.is_object() {
            let path = if path.is_empty() { toml_key(key) } else { format!("{path}.{}", toml_key(key)) };
            if path != "sources" {
                writeln!(out, "{}[{path}]", if out.is_empty() { "" } else { "\n" }).ok();
            }
            write_table(out, &path, value);
        } else if value.is_null() {
            // TOML has no null: an absent setting is a comment.
            writeln!(out, "# {} is not set", toml_key(key)).ok();
        } else {
            writeln!(out, "{} = {}", toml_key(key), toml_value(value)).ok();
        }
    }
}

/// What each key means; a test holds that this is the tree, no more and no less.
pub const REFERENCE: &[(&str, &str)] = &[
    (
        "roles",
        "What this process is there for: `gateway` (takes messages in), `worker` (applies them), `reader` (pages).\n\
         All, or some of them where log.engine is `kafka` and tables.engine `postgres`. Environment: HILUM_ROLES=gateway,worker.",
    ),
    ("http.listen", "Address of the HTTP door and of the pages. Port 0 takes a free one."),
    ("http.https", "Whether a proxy in front of it ends https: cookies are then for https alone."),
    (
        "http.zone",
        "IANA zone in which pages show times, and of times without one in searches. After a change: hilum rebuild index.",
    ),
    (
        "http.cors_origins",
        "Origins whose pages may use /fhir with a key (https://app.example.org), or \"*\" for all. Empty = none.",
    ),
    (
        "fhir.search",
        "Whether resources can be searched at /fhir: their values are then indexed with each version.",
    ),
    (
        "fhir.bases",
        "Addresses under which clients know /fhir (https://HOST/fhir): a reference that begins with one is to a resource here.\n\
         Links in answers begin with the first, or with the one that the client asked at. After a change: hilum rebuild index.",
    ),
    (
        "fhir.paging",
        "How pages of searches are linked: `sealed` (by the match before them), `offset` (by their number, for clients that go\n\
         to any page) or `getpages` (the search is kept, unreadable, for half an hour). Prefer: hilum-paging=… asks for another one.",
    ),
    (
        "fhir.paging_of",
        "The same for some accounts and API keys, name = style.\n\
         Example: paging_of = { his = \"getpages\" }",
    ),
    ("fhir.page_matches", "Matches in a page where the client does not say (_count)."),
    ("fhir.page_matches_max", "Matches in a page at most, up to 1000: who asks for more gets these."),
    (
        "fhir.totals_max",
        "Matches that are counted for the total of a first page, up to 100000: where there are more, no total is told. Each costs\n\
         time before the page is answered; _total=accurate counts all, _total=none nothing. 0 = none unless it is asked for.",
    ),
    (
        "fhir.limited",
        "Accounts and API keys that may know of some patients alone, name = [\"Patient/ID\", \"Group/ID\"]: of them, of the\n\
         members of the Groups, and by FHIR alone, reading.\n\
         Example: limited = { study = [\"Group/study-7\"] }",
    ),
    (
        "fhir.bundle_entries_max",
        "Entries of one batch or transaction, at most 10000: a transaction is one commit.",
    ),
    (
        "fhir.bundle_searches_max",
        "Conditions, references by a search and searches of one batch or transaction.",
    ),
    (
        "fhir.references",
        "A reference to nothing: `any` takes it, `exist` refuses what refers to what is not there, or may not be seen by\n\
         who writes.",
    ),
    (
        "fhir.if_match",
        "Types whose resources clients change and delete with If-Match alone (428 without): nobody writes over what they\n\
         have not seen.\n\
         Example: if_match = [\"MedicationRequest\"]",
    ),
    (
        "fhir.ignored_parameters",
        "Parameters of searches that are not looked at: what a proxy adds to addresses.\n\
         Example: ignored_parameters = [\"_dc\"]",
    ),
    (
        "mllp.listen",
        "Address of the MLLP door that everybody has; its listener is called `default`. Empty = none.",
    ),
    (
        "mllp.listeners",
        "Further MLLP listeners, name = address; a source names them in match.listeners.\n\
         Example: listeners = { ed = \"127.0.0.1:2576\" }",
    ),
    (
        "mllp.message_bytes_max",
        "Largest message in bytes, for all doors. A larger one is answered AR and the connection closes.",
    ),
    ("mllp.connections_max", "MLLP connections at the same time; further ones wait in the kernel's queue."),
    (
        "mllp.window_messages",
        "Messages of one connection between read and answered; beyond it the socket is not read.",
    ),
    (
        "mllp.buffer_bytes_max",
        "Bytes of messages that are not durable yet, over all connections; beyond it sockets are not read.",
    ),
    ("mllp.idle_s", "Seconds without a byte after which a connection is closed."),
    ("mllp.read_s", "Seconds from a frame's first byte to its last."),
    ("mllp.write_s", "Seconds that a peer may take to read an answer."),
    ("mllp.keepalive_s", "Seconds of silence before TCP asks whether the peer is still there; 0 = never."),
    ("log.engine", "Where what comes in is kept: `embedded` (a file in the data folder) or `kafka`."),
    ("log.brokers", "For `kafka`: its brokers, kafka-1:9092,kafka-2:9092,kafka-3:9092."),
    ("log.prefix", "For `kafka`: what the names of the topics begin with, one for each installation."),
    (
        "log.durability",
        "For `kafka`: what it must promise before anything is acknowledged: `replicated` (on two brokers) or `fsync` (on \
         one broker's disk). Topics that do not are refused.",
    ),
    ("log.partitions", "For `kafka`: partitions of each stream, when the topics are made. It never changes."),
    (
        "log.copies",
        "For `kafka`: copies of each partition, when the topics are made. 0 = as the cluster does by itself.",
    ),
    (
        "log.relay",
        "For `kafka`: whether workers publish what changes (ids and kinds, no content) as {prefix}.chart.changes.\n\
         The same in every process.",
    ),
    (
        "log.client",
        "For `kafka`: further settings by librdkafka's names, { \"security.protocol\" = \"SASL_SSL\" }. Shown masked.\n\
         A secret rather in a file of the data folder, secrets/log.client.sasl.password.",
    ),
    (
        "log.token.source",
        "For `kafka`: what gives the tokens by which the brokers know us (SASL/OAUTHBEARER): `none`, `oauth` (an issuer),\n\
         `aws_msk_iam` (Amazon's Kafka).",
    ),
    ("log.token.url", "For `oauth`: the token endpoint, https."),
    ("log.token.client_id", "For `oauth`: who we are to it."),
    (
        "log.token.client_secret",
        "For `oauth`: what proves it. Rather in a file of the data folder, secrets/log.token.client_secret.",
    ),
    ("log.token.scope", "For `oauth`: what is asked for; empty: what the issuer gives by itself."),
    (
        "log.token.ca_file",
        "For `oauth`: PEM of whoever signed the endpoint's certificate; empty: whom the system trusts.",
    ),
    ("log.token.region", "For `aws_msk_iam`: the cluster's region, ap-northeast-2."),
    ("log.token.role", "For `aws_msk_iam`: the ARN of the role to take; empty: the machine's own."),
    ("tables.engine", "Where rows are kept: `sqlite` (a file in the data folder) or `postgres`."),
    (
        "tables.url",
        "For `postgres`: postgres://user:password@host/database. Rather in the environment: HILUM_TABLES__URL.",
    ),
    ("tables.schema", "For `postgres`: the schema, one for each installation."),
    ("audit.at_once", "Whether it is on disk who looked before they see; else within a second."),
    ("audit.fails_closed", "Whether what cannot be written down is not shown."),
    ("logging.format", "`human` or `json`, one line an event, on standard error."),
    (
        "logging.level",
        "`error`, `warn`, `info`, `debug`, or by module: `info,hilum_adt=debug`. Never any patient data.",
    ),
    (
        "telemetry.otlp",
        "The collector that takes traces (OTLP over HTTP): http://127.0.0.1:4318. Empty = nothing is traced.",
    ),
    (
        "telemetry.sample",
        "The part of the messages whose way is traced, 0 to 1, beside those that their sender chose. Messages that are\n\
         refused, set aside or stood still at are traced whoever chose.",
    ),
    ("telemetry.traces_per_s_max", "Traces that begin in a second, whoever chose them, in each process."),
    (
        "telemetry.headers",
        "Headers of each request to the collector, { \"x-key\" = \"…\" }. Shown masked.\n\
         A secret rather in a file of the data folder, secrets/telemetry.headers.x-key.",
    ),
    (
        "telemetry.ca_file",
        "PEM of whoever signed the collector's certificate; empty: whom the system trusts.",
    ),
    (
        "shutdown.drain_s",
        "Seconds that a stopping server gives to what it has accepted: to be answered, and applied.",
    ),
    (
        "sources.*.match",
        "By what a source is known: { listeners = [], keys = [], peers = [] }; keys are names of API keys,\npeers addresses or networks. The first of listener, key, peer that matches decides, else `default`.",
    ),
    (
        "sources.*.topic",
        "For `kafka`: whether what comes from it has a topic of its own, {prefix}.hl7.in.NAME, which others may be let read\n\
         alone. The topic stays when this is turned off; what comes then goes to {prefix}.hl7.in.",
    ),
    ("sources.*.zone", "IANA zone of times without an offset in a message without one."),
    ("sources.*.charset", "Charset that holds whatever MSH-18 says."),
    ("sources.*.charset_fallback", "Charset of bytes that MSH-18 does not explain and that are not UTF-8."),
    (
        "sources.*.authority",
        "Authority of identifiers that carry none; not set = MSH-4, else the source's name (marked).",
    ),
    ("sources.*.authority_aliases", "Authorities by other names: { \"SNUH^1.2.3^ISO\" = \"SNUH\" }."),
    ("sources.*.primary_type", "Type (PID-3.5) of the identifier that alone makes the patient."),
    (
        "sources.*.primary_authority",
        "Authority of that identifier; not set = any, the first one of the type.",
    ),
    ("sources.*.identifying_types", "Types that identify beside the primary one."),
    ("sources.*.blank_type", "The type of an identifier whose PID-3.5 is empty."),
    ("sources.*.use_pid2_pid4", "Whether PID-2 and PID-4 are read as identifiers."),
    ("sources.*.account_is_visit", "Whether PID-18 (account) names the visit."),
    ("sources.*.monotone_control_ids", "Whether MSH-10 is a number that only grows."),
    (
        "sources.*.segments",
        "What a repeated segment group means: { AL1 = \"add\", DG1 = \"replace\" }; replace unless named.",
    ),
    ("sources.*.component_null_deletes", "Whether \"\" in a component deletes that component."),
    (
        "sources.*.unknown_names",
        "Names that stand for an unknown person; never matched by name or birth date.",
    ),
    (
        "sources.*.placeholder_values",
        "Values of PID-3, PV1-19 and the like that stand for none, beside zeros and punctuation alone.",
    ),
    ("sources.*.emergency_units", "Unit codes (PV1-3.1) that are emergency places; class E counts anywhere."),
    (
        "sources.*.on_transient",
        "When a message cannot be kept for a reason of ours: `close` (no answer), `AR` or `AE`.\nMany senders drop a message that was answered AR or AE.",
    ),
    ("sources.*.accept_training", "Whether MSH-11 T and D are charted. Never on a production server."),
    ("sources.*.silence_alarm_s", "Seconds of silence after which the source is shown as silent; 0 = never."),
];

/// All keys with meaning and default, and the bounds that nobody may move, as a TOML file to start from.
pub fn reference() -> String {
    let tree = shape();
    let mut out = String::from(
        "# hilum configuration: every key, its meaning, its default.\n\
         # In the environment: HILUM_ and the key in capitals, two underscores for the dot (HILUM_HTTP__LISTEN).\n",
    );
    let mut section = String::new();
    for (key, meaning) in REFERENCE {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        if section != table {
            table.clone_into(&mut section);
            write!(out, "\n[{}]\n", table.replace('*', "NAME")).ok();
        }
        for line in meaning.lines() {
            writeln!(out, "# {line}").ok();
        }
        match tree.pointer(&format!("/{}", key.replace('.', "/"))) {
            Some(Value::Null) | None => writeln!(out, "# {name} = \"…\" (not set)").ok(),
            Some(Value::Object(map)) if map.contains_key("*") => writeln!(out, "# {name} = {{}}").ok(),
            Some(value) => writeln!(out, "# {name} = {}", toml_value(value)).ok(),
        };
    }
    out.push_str("\n# Bounds that nobody moves (limits.rs of each crate):\n");
    for bound in crate::bounds::all() {
        writeln!(out, "#   {}::{} = {}  # {}", bound.part, bound.name, bound.value, bound.meaning).ok();
    }
    out
}
