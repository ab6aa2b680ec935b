//! What is read, and what is refused.

use super::keys::shape;
use super::text::REFERENCE;
use super::*;

fn load(toml: &str, environment: &[(&str, &str)]) -> anyhow::Result<Config> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hilum.toml");
    std::fs::write(&file, toml).expect("written");
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::load(Some(&file), environment, &Overrides::default())
}

#[test]
fn file_then_environment_then_command_line() {
    let config = load(
        "[http]\nlisten = \"127.0.0.1:1\"\n[mllp]\nidle_s = 7\nlisteners = { ed = \"127.0.0.1:2\" }\n\
         [sources.ed]\nmatch = { listeners = [\"ed\"], peers = [\"10.0.0.0/8\"] }\nzone = \"Asia/Seoul\"\n\
         segments = { AL1 = \"add\" }\n",
        &[
            ("HILUM_HTTP__LISTEN", "127.0.0.1:3"),
            ("HILUM_MLLP__READ_S", "9"),
            ("HILUM_SOURCES__ED__SILENCE_ALARM_S", "5"),
            ("HILUM_DATA", "/elsewhere"),
            ("PATH", "/bin"),
        ],
    )
    .expect("valid");
    assert_eq!(config.http.listen, "127.0.0.1:3");
    assert_eq!((config.mllp.idle_s, config.mllp.read_s), (7, 9));
    let ed = &config.sources["ed"];
    assert_eq!((ed.settings.zone.as_str(), ed.settings.silence_alarm_s), ("Asia/Seoul", 5));
    assert_eq!(ed.rules.peers, ["10.0.0.0/8"]);
    assert_eq!(ed.settings.primary_type, "MR", "what is not named keeps its default");
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_name() {
    let cases = [
        ("section", "[htpp]\nlisten = \"x\"", "unknown key `htpp`; did you mean `http`?"),
        ("key", "[mllp]\nidle_sec = 1", "unknown key `mllp.idle_sec`; did you mean `idle_s`?"),
        ("source", "[sources.ed]\nzon = \"UTC\"", "unknown key `sources.ed.zon`; did you mean `zone`?"),
        (
            "match",
            "[sources.ed]\nmatch = { peer = [] }",
            "unknown key `sources.ed.match.peer`; did you mean `peers`?",
        ),
        ("nothing near", "[http]\nxyzzy_plugh_quux = 1", "`hilum config reference` lists all"),
        ("type", "[mllp]\nidle_s = \"soon\"", "idle_s"),
        ("zero", "[mllp]\nwindow_messages = 0", "mllp.window_messages: at least 1"),
        ("no entries", "[fhir]\nbundle_entries_max = 0", "fhir.bundle_entries_max: 1 to 10000"),
        ("no type", "[fhir]\nif_match = [\"Pacient\"]", "fhir.if_match: `Pacient` is no resource type"),
        (
            "what narrows a search",
            "[fhir]\nignored_parameters = [\"birthdate:missing\"]",
            "fhir.ignored_parameters: `birthdate:missing` means something",
        ),
        ("no policy", "[fhir]\nreferences = \"some\"", "fhir.references"),
        ("an origin with a path", "[http]\ncors_origins = [\"https://a/b\"]", "`https://a/b` is no origin"),
        ("no such listener", "[sources.a]\nmatch = { listeners = [\"x\"] }", "there is no listener `x`"),
        (
            "no such group",
            "[sources.a]\nsegments = { ALI = \"add\" }",
            "sources.a.segments: `ALI` is no group",
        ),
        ("a feed without topics", "[log]\nrelay = true", "log.relay: the change feed is a topic"),
        ("kafka without brokers", "[log]\nengine = \"kafka\"", "log.brokers"),
        (
            "an issuer in clear",
            "[log]\nengine = \"kafka\"\nbrokers = \"k:1\"\n[log.token]\nsource = \"oauth\"\nurl = \"http://sso/token\"\nclient_id = \"h\"",
            "log.token.url",
        ),
        (
            "a role without a region",
            "[log]\nengine = \"kafka\"\nbrokers = \"k:1\"\n[log.token]\nsource = \"aws_msk_iam\"",
            "log.token.region",
        ),
        (
            "a page beyond the bound",
            "[fhir]\npage_matches_max = 5000",
            "fhir.page_matches_max: 5000 is not from 1 to 1000",
        ),
        ("too many to count", "[fhir]\ntotals_max = 100001", "fhir.totals_max: 100001"),
        ("more than a page has", "[fhir]\npage_matches = 30\npage_matches_max = 20", "fhir.page_matches: 30"),
        ("no such style", "[fhir]\npaging = \"cursor\"", "fhir.paging: `cursor`"),
        (
            "neither a patient nor a group",
            "[fhir.limited]\nstudy = [\"Patient/a\", \"Observation/b\"]",
            "fhir.limited.study: the 2. is neither Patient/ID nor Group/ID",
        ),
        ("postgres without url", "[tables]\nengine = \"postgres\"", "tables.url"),
    ];
    for (why, toml, want) in cases {
        let error = format!("{:#}", load(toml, &[]).expect_err(why));
        assert!(error.contains(want), "{why}: {error}");
    }
}

#[test]
fn what_a_start_would_refuse_is_refused_by_key_and_file() {
    let postgres = "[tables]\nengine = \"postgres\"\nurl = ";
    let kafka = "[log]\nengine = \"kafka\"\nbrokers = \"127.0.0.1:9092\"\n";
    let cases = [
        (
            "address",
            "[mllp]\nlisten = \"nonsense\"".to_owned(),
            "hilum.toml: mllp.listen: `nonsense` is no address",
        ),
        (
            "listener",
            "[mllp]\nlisteners = { ed = \"localhost:1\" }".to_owned(),
            "hilum.toml: mllp.listeners.ed: `localhost:1` is no address",
        ),
        (
            "zone",
            "[http]\nzone = \"Asia/Soul\"".to_owned(),
            "hilum.toml: http.zone: `Asia/Soul` is no IANA time zone; did you mean `Asia/Seoul`?",
        ),
        (
            "abbreviation",
            "[sources.a]\nzone = \"KST\"".to_owned(),
            "hilum.toml: sources.a.zone: `KST` is no IANA time zone (write Asia/Seoul)",
        ),
        ("charset", "[sources.a]\ncharset = \"klingon\"".to_owned(), "hilum.toml: sources.a.charset: "),
        (
            "fallback",
            "[sources.a]\ncharset_fallback = \"CP94\"".to_owned(),
            "hilum.toml: sources.a.charset_fallback: `CP94`: unknown charset; did you mean `CP949`?",
        ),
        (
            "topic",
            "[sources.a]\ntopic = true".to_owned(),
            "hilum.toml: sources.a.topic: a log in a file has no topics: it needs log.engine = \"kafka\"",
        ),
        ("name", "[sources.\"a b/../x\"]".to_owned(), "sources.a b/../x: a name has"),
        (
            "peer",
            "[sources.a]\nmatch = { peers = [\"300.1.1.1\"] }".to_owned(),
            "hilum.toml: sources.a.match.peers: `300.1.1.1` is no address and no network",
        ),
        ("level", "[logging]\nlevel = \"hilum=loud\"".to_owned(), "hilum.toml: logging.level: `hilum=loud`"),
        (
            "number",
            "[mllp]\nidle_s = \"soon\"".to_owned(),
            "hilum.toml: mllp.idle_s: string \"soon\", a whole number is expected",
        ),
        (
            "truth",
            "[http]\nhttps = 1".to_owned(),
            "hilum.toml: http.https: integer `1`, true or false is expected",
        ),
        (
            "choice",
            "[sources.a]\non_transient = \"drop\"".to_owned(),
            "hilum.toml: sources.a.on_transient: `drop`, one of these is expected: `close`, `AR`, `AE`",
        ),
        (
            "list",
            "[sources.a]\nmatch = { peers = \"10.0.0.1\" }".to_owned(),
            "hilum.toml: sources.a.match.peers: string \"10.0.0.1\", a list is expected",
        ),
        ("section", "http = 3".to_owned(), "hilum.toml: http: integer `3`, a table is expected"),
        ("syntax", "[http".to_owned(), "hilum.toml: TOML parse error at line 1"),
        ("in clear", format!("{postgres}\"postgres://h@db.example/hilum\""), "hilum.toml: tables.url: "),
        (
            "in clear, preferred otherwise",
            format!("{postgres}\"postgres://h@db.example/hilum?sslmode=prefer\""),
            "sslmode=disable",
        ),
        ("TLS", format!("{postgres}\"postgres://h@db.example/hilum?sslmode=require\""), "TLS"),
        ("no url", format!("{postgres}\"::\""), "tables.url: "),
        (
            "schema",
            format!("{postgres}\"postgres://h@127.0.0.1/hilum\"\nschema = \"Bad-Name\""),
            "hilum.toml: tables.schema: table (schema): its name must be lower-case",
        ),
        ("prefix", format!("{kafka}prefix = \"a b\""), "the topics' prefix must have 1 to"),
        (
            "client",
            format!("{kafka}client = {{ \"sasl.pasword\" = \"CANARY\" }}"),
            "kafka setting `sasl.pasword`",
        ),
    ];
    for (why, toml, want) in &cases {
        let error = format!("{:#}", load(toml, &[]).expect_err(why));
        assert!(error.contains(want), "{why}: {error}");
        for theirs in ["CANARY", "Value", "default.", "global.", ".rs", "u64", "struct", "figment"] {
            assert!(!error.contains(theirs), "{why}: {error}");
        }
    }
    for url in [
        "postgres://h@db.example/hilum?sslmode=disable",
        "postgres://h@127.0.0.1/hilum",
        "host=/run/postgresql user=h",
    ] {
        load(&format!("{postgres}\"{url}\""), &[]).expect(url);
    }
    let error = load("", &[("HILUM_HTTP__ZONE", "Mars/X")]).expect_err("variable").to_string();
    assert!(error.starts_with("environment (HILUM_") && error.contains("http.zone"), "{error}");
    let by_hand = Overrides { mllp: Some("2575".to_owned()), ..Overrides::default() };
    let error = Config::load(None, [], &by_hand).expect_err("option").to_string();
    assert!(error.starts_with("--mllp: mllp.listen: `2575`"), "{error}");
}

#[test]
fn variables_are_refused_with_the_nearest_name() {
    let error = load("", &[("HILUM_MLLP__IDEL_S", "3")]).expect_err("variable").to_string();
    assert!(error.contains("`mllp.idel_s`; did you mean `idle_s`?"), "{error}");
}

#[test]
fn passwords_are_masked() {
    let cases = [
        ("password", "postgres://h:geheim@db/hilum?x=1", "postgres://h:***@db/hilum?x=1"),
        ("no password", "postgres://h@db/hilum", "postgres://h@db/hilum"),
        ("at sign in it", "postgres://h:ge@heim@db/hilum", "postgres://h:***@db/hilum"),
        ("parameter", "postgres://db/hilum?password=geheim&x=1", "postgres://db/hilum?password=***&x=1"),
        ("words", "host=db password=geheim user=h", "host=db password=*** user=h"),
        ("none", "", ""),
    ];
    for (why, url, want) in cases {
        assert_eq!(mask_url(url), want, "{why}");
    }
    let mut config = Config::default();
    config.tables.url = "postgres://h:geheim@db/hilum".to_owned();
    assert!(!config.to_toml().contains("geheim"));
}

#[test]
fn what_is_printed_reads_back_the_same() {
    let config = load("[sources.ed]\nauthority_aliases = { \"A^1.2^ISO\" = \"A\" }\n[mllp]\nlisteners = { b = \"127.0.0.1:0\" }", &[])
        .expect("valid");
    let printed = config.to_toml();
    let again = load(&printed, &[]).expect("what we print is valid");
    assert_eq!(printed, again.to_toml());
}

#[test]
fn the_reference_names_every_key_once() {
    fn leaves(tree: &Value, path: &str, out: &mut Vec<String>) {
        match tree {
            Value::Object(map)
                if !map.is_empty() && path != "sources.*.match" && path != "mllp.listeners" =>
            {
                for (key, value) in map {
                    leaves(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, out);
                }
            }
            _ => out.push(path.to_owned()),
        }
    }
    let mut known = Vec::new();
    leaves(&shape(), "", &mut known);
    let mut told: Vec<_> = REFERENCE.iter().map(|(key, _)| (*key).to_owned()).collect();
    known.sort();
    told.sort();
    assert_eq!(known, told);
}

#[test]
fn the_reference_is_valid_once_its_defaults_are_uncommented() {
    let mut toml = String::new();
    for line in reference().replace("[sources.NAME]", "[sources.name]").lines() {
        let is_default = line.strip_prefix("# ").is_some_and(|rest| {
            rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) && !rest.ends_with("(not set)")
        });
        let example = line.starts_with("# Example");
        toml.push_str(if is_default && !example { line.trim_start_matches("# ") } else { line });
        toml.push('\n');
    }
    let config = load(&toml, &[]).expect("valid");
    let mut want = Config::default();
    want.sources.insert("name".to_owned(), Source::default());
    assert_eq!(config.to_toml(), want.to_toml());
}

#[test]
fn a_secret_of_the_log_comes_from_the_environment_and_is_shown_to_nobody() {
    let file =
        "[log]\nengine = \"kafka\"\nbrokers = \"k:9092\"\n[log.client]\n\"sasl.username\" = \"hilum\"\n";
    let config = load(file, &[("HILUM_LOG__CLIENT", "{\"sasl.password\" = \"geheim\"}")]).unwrap();
    let client: Vec<(&str, &str)> = config.log.client.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(client, [("sasl.password", "geheim"), ("sasl.username", "hilum")]);
    let shown = config.to_toml();
    assert!(shown.contains("sasl.password") && !shown.contains("geheim"), "{shown}");
}

#[test]
fn a_secret_of_the_log_may_stand_in_a_file_of_its_own() {
    let file = "[log]\nengine = \"kafka\"\nbrokers = \"k:9092\"\n[log.client]\n\"sasl.username\" = \"hilum\"\n\
                [log.token]\nsource = \"oauth\"\nurl = \"https://sso/token\"\nclient_id = \"hilum\"\n";
    let log = load(file, &[]).expect("valid without its secret").log;
    let secret = |name: &str| vec![(name.to_owned(), "geheim".to_owned())];
    let given = log.clone().with_secrets(secret("log.client.sasl.password")).unwrap();
    assert_eq!(given.client["sasl.password"], "geheim");
    assert!(!format!("{given:?}").contains("geheim"));
    let given = log.clone().with_secrets(secret("log.token.client_secret")).unwrap();
    assert_eq!(given.token.client_secret, "geheim");
    let config = Config { log: given.clone(), ..Config::default() };
    assert!(!format!("{config:?}{}", config.to_toml()).contains("geheim"));
    let cases = [
        ("no such key", log.with_secrets(secret("log.tokn.client_secret")), "secrets/log.tokn.client_secret"),
        ("said twice", given.with_secrets(secret("log.token.client_secret")), "leave one of them out"),
    ];
    for (why, refused, want) in cases {
        let refused = refused.expect_err(why).to_string();
        assert!(refused.contains(want) && !refused.contains("geheim"), "{why}: {refused}");
    }
}
