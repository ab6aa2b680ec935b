//! The ways in which pages are linked, over the real socket: each shows what matched when the walk began, once; and what is
//! kept for them nobody can read.

use std::path::Path;

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::tempdir;

use crate::many::sibling;
use crate::search::{Client, FORM, code_of, ids, link, said};
use crate::server::{Server, Start};

/// Stands in what is searched for, and in nothing that is stored.
const CANARY: &str = "KANARIENVOGEL";

const STYLES: [&str; 3] = ["sealed", "offset", "getpages"];

#[test]
fn pages_are_the_same_in_every_style() {
    let folder = tempdir().unwrap();
    let config = "[fhir]\npaging_of = { his = \"getpages\" }\npage_matches = 3\npage_matches_max = 5\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    the_same_in_every_style(&server);
    the_configured_style(&server);
    let data = server.data.clone();
    server.stop();
    assert!(!is_in_files(&data, CANARY), "what was searched for stands in a file");
}

/// The same on PostgreSQL; and a walk each page of which is asked of another process than the one before.
#[test]
fn pages_are_the_same_in_every_style_on_postgresql() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::shared());
    let config = crate::many::config(&kafka, postgres);
    let folder = tempdir().unwrap();
    let start = Start { config: &config, ..Start::default() };
    let server = Server::start(&folder, &start);
    the_same_in_every_style(&server);
    let other = sibling(&folder);
    let two = Server::start(&other, &start);
    any_process_answers(&server, &two);
    let search = "Observation?status=final&_sort=-date";
    let explained =
        crate::server::run(&["explain", "--data", server.data.to_str().unwrap(), "--engine", search]);
    let text = String::from_utf8(explained.stdout).unwrap();
    assert!(text.contains("9 driven · 9 match"), "{text}{}", String::from_utf8_lossy(&explained.stderr));
}

/// A total is exact or is not told: not beyond what configuration has counted, and whoever asks for it gets it all the same.
#[test]
fn a_total_is_told_as_far_as_configuration_counts() {
    let totals = |config: &str| {
        let folder = tempdir().unwrap();
        let server = Server::start(&folder, &Start { config, ..Start::default() });
        let client = Client::new(&server, "operator", "operator");
        for id in ["1", "2", "3"] {
            client.put("Location", id, "");
        }
        let total = |search: &str| client.page(search)["total"].as_u64();
        let all = ["", "&_total=none", "&_total=accurate", "&_count=3", "&_summary=count"]
            .map(|more| total(&format!("/Location?_count=1{more}").replace("_count=1&_count", "_count")));
        server.stop();
        all
    };
    assert_eq!(totals(""), [Some(3), None, Some(3), Some(3), Some(3)]);
    assert_eq!(totals("[fhir]\ntotals_max = 3\n"), [Some(3), None, Some(3), Some(3), Some(3)]);
    // One page with all of them is a count by itself.
    assert_eq!(totals("[fhir]\ntotals_max = 2\n"), [None, None, Some(3), Some(3), Some(3)]);
    assert_eq!(totals("[fhir]\ntotals_max = 0\n"), [None, None, Some(3), Some(3), Some(3)]);
}

/// A type of which there was nothing before moves no place in a walk over several, whichever way it goes.
#[test]
fn a_walk_over_types_goes_on_while_another_type_begins() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    for ty in ["Location", "Organization", "Patient"] {
        for id in ["x", "y", "z"] {
            client.put(ty, id, "");
        }
    }
    let begin = [
        "BiologicallyDerivedProduct",
        "Device",
        "HealthcareService",
        "InsurancePlan",
        "Medication",
        "Specimen",
    ];
    let mut begin = begin.into_iter();
    let of = |page: &Value| -> Vec<String> {
        let entries = page["entry"].as_array().into_iter().flatten();
        let place =
            |entry: &Value| entry["fullUrl"].as_str().unwrap().split_once("/fhir/").unwrap().1.to_owned();
        entries.map(place).collect()
    };
    for style in STYLES {
        let prefer = format!("hilum-paging={style}");
        let search = "?_id=x,y,z";
        let all = of(&client.page(&format!("{search}&_count=100")));
        let first = client.ask("GET", &format!("{search}&_count=2"), &[("prefer", &prefer)], "");
        let first = said(&first);
        client.put(begin.next().unwrap(), "y", "");
        let mut found = of(&first);
        let rest = client.walk(&link(&first, "next").unwrap(), "next");
        found.extend(rest.iter().flat_map(of));
        assert_eq!(found, all, "{style}");
        let last = client.page(&link(&first, "last").unwrap());
        client.put(begin.next().unwrap(), "y", "");
        let mut found = of(&last);
        for page in client.walk(&link(&last, "previous").unwrap(), "previous") {
            found.splice(0..0, of(&page));
        }
        assert_eq!(found, all, "{style}: from behind");
    }
}

/// Links are of the installation, not of the process that gave them.
fn any_process_answers(one: &Server, two: &Server) {
    let client = Client::new(one, "walker", "viewer");
    let beside = Client { server: two, key: client.key.clone() };
    for style in STYLES {
        let prefer = [("prefer", format!("hilum-paging={style}"))];
        let prefer: Vec<(&str, &str)> = prefer.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let first = said(&client.ask("GET", "/Observation?_sort=-date&_count=2", &prefer, ""));
        let (mut found, mut next) = (ids(&first, "match"), link(&first, "next"));
        for who in [&beside, &client].into_iter().cycle().take(10) {
            let Some(there) = next else { break };
            let page = who.page(&there);
            found.extend(ids(&page, "match"));
            next = link(&page, "next");
        }
        let all: Vec<String> = (0..9).rev().map(|n| format!("o{n}")).collect();
        assert_eq!(found, all, "{style}");
    }
}

fn observation(client: &Client<'_>, id: &str, day: usize) {
    let rest = format!(
        ",\"status\":\"final\",\"code\":{{\"text\":\"x\"}},\"identifier\":[{{\"value\":\"{id}\"}}],\
         \"effectiveDateTime\":\"2026-01-{day:02}\""
    );
    client.put("Observation", id, &rest);
}

fn the_same_in_every_style(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    for n in 0..9 {
        observation(&client, &format!("o{n}"), n + 1);
    }
    let all: Vec<String> = (0..9).rev().map(|n| format!("o{n}")).collect();
    // One that fits into a link, and one that does not.
    let long: Vec<String> = (0..300).map(|n| format!("{CANARY}-{n}")).chain(all.iter().cloned()).collect();
    let long = format!("identifier={}&_sort=-date&_count=2", long.join(","));
    // Short, and yet longer than any link once it is written in one.
    let signs =
        format!("identifier={}&identifier:not={}&_sort=-date&_count=2", all.join(","), "%01".repeat(1_300));
    for style in STYLES {
        let prefer = [("prefer", format!("hilum-paging={style}"))];
        let prefer: Vec<(&str, &str)> = prefer.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for query in ["status=final&_sort=-date&_count=2", &long, &signs] {
            let headers = [prefer.as_slice(), &[FORM]].concat();
            let answer = client.ask("POST", "/Observation/_search", &headers, query);
            assert_eq!(answer.status, 200, "{style}: {}", answer.text());
            let applied = answer.header("preference-applied");
            assert_eq!(applied.as_deref(), Some(format!("hilum-paging={style}").as_str()));
            let first = said(&answer);
            assert_eq!(first["total"], 9, "{style}");
            observation(&client, "late", 4);
            let next = link(&first, "next").unwrap();
            assert!(
                next.len() < 1_500 && !next.contains(CANARY) && !next.contains("final"),
                "{style}: {next}"
            );
            let mut found = ids(&first, "match");
            let rest = client.walk(&next, "next");
            found.extend(rest.iter().flat_map(|page| ids(page, "match")));
            assert_eq!(found, all, "{style}");
            assert!(rest.iter().all(|page| page["total"] == 9), "{style}: as it was told");
            let mut backward: Vec<String> = Vec::new();
            for page in client.walk(&link(&first, "last").unwrap(), "previous") {
                backward.splice(0..0, ids(&page, "match"));
            }
            assert_eq!(backward, all, "{style}: from behind");
            let again = client.page(&link(rest.last().unwrap(), "first").unwrap());
            assert_eq!(ids(&again, "match"), all[..2], "{style}");
            // Nobody else's.
            let other = Client::new(server, &format!("o-{style}-{}", query.len()), "admin");
            assert_eq!(other.ask("GET", &next, &[], "").status, 404, "{style}");
            assert_eq!(client.ask("DELETE", "/Observation/late", &[], "").status, 204);
        }
    }
    by_number(&client, &all);
}

/// Pages by their number, and those of a search that is kept.
fn by_number(client: &Client<'_>, all: &[String]) {
    let query = "/Observation?status=final&_sort=-date&_count=2";
    let page = client.page(&format!("{query}&_offset=4"));
    assert_eq!((ids(&page, "match"), &page["total"]), (all[4..6].to_vec(), &Value::from(9)));
    assert_eq!(link(&page, "self").unwrap(), "/Observation?status=final&_sort=-date&_count=2&_offset=4");
    let next = link(&page, "next").unwrap();
    assert!(next.starts_with("/_page/") && next.ends_with("?_offset=6&_count=2"), "{next}");
    // A client goes where it likes.
    let there = next.replace("_offset=6&_count=2", "_offset=1&_count=3");
    assert_eq!(ids(&client.page(&there), "match"), all[1..4]);
    let behind = client.page(&next.replace("_offset=6", "_offset=100"));
    assert_eq!((ids(&behind, "match").len(), &behind["total"]), (0, &Value::from(9)));
    for (path, want) in [
        (format!("{query}&_offset=8001"), "hilum-paging=sealed"),
        (format!("{query}&_offset=-1"), "_offset"),
        (format!("{next}&x=1"), "_offset, _count"),
    ] {
        let answer = client.ask("GET", &path, &[], "");
        assert!(answer.status == 400 && answer.text().contains(want), "{path}: {}", answer.text());
    }
    let kept = client.ask("GET", query, &[("prefer", "hilum-paging=getpages")], "");
    let next = link(&said(&kept), "next").unwrap();
    assert!(next.starts_with("?_getpages=") && next.contains("&_getpagesoffset=2&_count=2"), "{next}");
    assert_eq!(ids(&client.page(&format!("{next}&_pretty=true")), "match"), all[2..4]);
    // How a page is laid out goes on with the walk.
    for style in STYLES {
        let prefer = [("prefer", format!("hilum-paging={style}"))];
        let prefer: Vec<(&str, &str)> = prefer.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let first = client.ask("GET", &format!("{query}&_pretty=true"), &prefer, "");
        let page = client.ask("GET", &link(&said(&first), "next").unwrap(), &[], "");
        assert!(page.text().starts_with("{\n  \"resourceType\""), "{style}: {}", page.text());
    }
    let changed = next.replace("_getpages=", "_getpages=A");
    assert_eq!(client.ask("GET", &changed, &[], "").status, 404);
    // Nobody was ever given this one.
    let unknown = format!("?_getpages={}", "A".repeat(64));
    let answer = client.ask("GET", &unknown, &[], "");
    assert_eq!((answer.status, code_of(&answer).as_str()), (404, "not-found"));
    let answer = client.ask("GET", query, &[("prefer", "hilum-paging=x")], "");
    assert!(answer.status == 400 && answer.text().contains("getpages"), "{}", answer.text());
}

fn the_configured_style(server: &Server) {
    let his = Client::new(server, "his", "viewer");
    let first = his.page("/Observation?status=final");
    assert_eq!(ids(&first, "match").len(), 3, "fhir.page_matches");
    assert!(link(&first, "next").unwrap().starts_with("?_getpages="));
    assert_eq!(ids(&his.page("/Observation?status=final&_count=1000"), "match").len(), 5);
    let other = Client::new(server, "other", "viewer");
    let first = other.page("/Observation?status=final");
    assert!(!link(&first, "next").unwrap().contains("_getpages"));
}

fn is_in_files(folder: &Path, text: &str) -> bool {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().any(|path| {
        if path.is_dir() {
            return is_in_files(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// A link leads across no rebuild of the index: what was visible before it is not known any more.
#[test]
fn a_link_ends_with_the_index_that_it_walks() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    for n in 0..5 {
        observation(&client, &format!("o{n}"), n + 1);
    }
    let next_of = |style: &str, query: &str| {
        let prefer = format!("hilum-paging={style}");
        let first = said(&client.ask("GET", query, &[("prefer", &prefer)], ""));
        link(&first, "next").unwrap()
    };
    let counted = "/Observation?status=final&_count=2";
    let uncounted = "/Observation?status=final&_count=2&_total=none";
    let links = STYLES.map(|style| (style, next_of(style, counted), next_of(style, uncounted)));
    let (data, key) = (server.data.clone(), client.key.clone());
    server.stop();
    let config = "[http]\nzone = \"Asia/Seoul\"\n[fhir]\nbases = [\"https://hilum.example/fhir\"]\n";
    let file = folder.path().join("zone.toml");
    std::fs::write(&file, config).unwrap();
    let rebuilt = crate::server::run(&[
        "rebuild",
        "index",
        "--data",
        data.to_str().unwrap(),
        "--config",
        file.to_str().unwrap(),
    ]);
    assert_eq!(rebuilt.status.code(), Some(3), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let client = Client { server: &server, key };
    for (style, counted, uncounted) in links {
        for (next, total) in [(counted, Value::from(5)), (uncounted, Value::Null)] {
            let answer = client.ask("GET", &next, &[], "");
            assert_eq!(
                (answer.status, code_of(&answer).as_str()),
                (410, "expired"),
                "{next}: {}",
                answer.text()
            );
            let again = answer.header("link").unwrap();
            // Whatever `Host` said: links begin with what is configured.
            assert!(again.starts_with("<https://hilum.example/fhir"), "{again}");
            let path = again.split_once("/fhir").unwrap().1.split_once('>').unwrap().0;
            let mark = match style {
                "offset" => "?_offset=",
                "getpages" => "?_getpages=",
                _ => "/_page/",
            };
            let first = client.page(path);
            assert_eq!((ids(&first, "match"), &first["total"]), (vec!["o0".into(), "o1".into()], &total));
            // What comes meanwhile is not in the walk that began anew.
            observation(&client, "o9", 1);
            let mut found = ids(&first, "match");
            let rest = client.walk(&link(&first, "next").unwrap(), "next");
            found.extend(rest.iter().flat_map(|page| ids(page, "match")));
            assert_eq!(found, ["o0", "o1", "o2", "o3", "o4"], "{style}");
            for there in [path.to_owned(), link(&first, "next").unwrap()] {
                let is_counted = there.contains("?_offset=") || there.contains("?_getpages=");
                assert!(there.contains(mark) && is_counted == (style != "sealed"), "{style}: {there}");
            }
            assert_eq!(client.ask("DELETE", "/Observation/o9", &[], "").status, 204);
        }
    }
}

/// The patients whose rows a limited key may know of, 18 in all, every sixth of one patient.
fn members(client: &Client<'_>, all: impl Iterator<Item = usize>) {
    let member = |n: usize| format!("{{\"entity\":{{\"reference\":\"Patient/p{n}\"}}}}");
    let all: Vec<String> = all.map(member).collect();
    let rest = format!(",\"type\":\"person\",\"actual\":true,\"member\":[{}]", all.join(","));
    client.put("Group", "g", &rest);
}

/// Who comes into a Group, or leaves it, between two pages moves none of the rows that are to come, nor those that were.
#[test]
fn a_walk_goes_on_behind_its_last_row_whoever_may_be_known_of_since() {
    let folder = tempdir().unwrap();
    let config = "[fhir.limited]\nward = [\"Group/g\"]\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let operator = Client::new(&server, "operator", "operator");
    for n in 0..6 {
        operator.put("Patient", &format!("p{n}"), "");
    }
    for n in 0..18 {
        let subject = format!(
            ",\"status\":\"final\",\"code\":{{\"text\":\"x\"}},\"subject\":{{\"reference\":\"Patient/p{}\"}}",
            n % 6
        );
        operator.put("Observation", &format!("o{n:02}"), &subject);
    }
    let ward = Client::new(&server, "ward", "viewer");
    let rows =
        |numbers: &[usize]| -> Vec<String> { numbers.iter().map(|number| format!("o{number:02}")).collect() };
    let (all, without): (Vec<usize>, Vec<usize>) =
        ((0..18).collect(), (0..18).filter(|n| n % 6 > 0).collect());
    let first = |style: &str| {
        let prefer = format!("hilum-paging={style}");
        said(&ward.ask("GET", "/Observation?_sort=_id&_count=6", &[("prefer", &prefer)], ""))
    };
    let found =
        |pages: &[Value]| -> Vec<String> { pages.iter().flat_map(|page| ids(page, "match")).collect() };
    let backward = |page: &Value| -> Vec<String> {
        let mut pages = ward.walk(&link(page, "previous").unwrap(), "previous");
        pages.reverse();
        found(&pages)
    };
    for style in STYLES {
        for (why, before, since) in [("leaves", &all, &without), ("joins", &without, &all)] {
            let why = format!("{style}, one {why}");
            let begin = |wanted: &[usize]| members(&operator, if wanted.len() == 18 { 0..6 } else { 1..6 });
            begin(before);
            let one = first(style);
            assert_eq!(
                (ids(&one, "match"), &one["total"]),
                (rows(&before[..6]), &before.len().into()),
                "{why}"
            );
            let two = ward.page(&link(&one, "next").unwrap());
            let last = ward.page(&link(&one, "last").unwrap());
            let end = ids(&last, "match").first().unwrap().clone();
            begin(since);
            let behind = |numbers: &[usize]| -> Vec<String> {
                rows(&since.iter().copied().filter(|n| *n > numbers[5]).collect::<Vec<_>>())
            };
            // From the first page to the end; from the second one, both ways; from the end to the beginning.
            let rest = ward.walk(&link(&one, "next").unwrap(), "next");
            assert_eq!(found(&rest), behind(&before[..6]), "{why}");
            assert_eq!(
                found(&ward.walk(&link(&two, "next").unwrap(), "next")),
                behind(&before[6..12]),
                "{why}"
            );
            let of_one = rows(&before[6..7]).remove(0);
            let upto =
                |end: &String| -> Vec<String> { rows(since).into_iter().filter(|row| row < end).collect() };
            assert_eq!(backward(&two), upto(&of_one), "{why}: back from the second");
            assert_eq!(backward(&last), upto(&end), "{why}: back from the last");
            // Forth and back again, as it is now.
            let again = ward.page(&link(&two, "next").unwrap());
            assert_eq!(backward(&again), upto(&ids(&again, "match")[0]), "{why}");
            let of_end = ward.page(&link(&one, "last").unwrap());
            assert!(
                rows(since).ends_with(&ids(&of_end, "match")) && link(&of_end, "next").is_none(),
                "{why}"
            );
            let begun = ward.page(&link(rest.last().unwrap(), "first").unwrap());
            assert_eq!(ids(&begun, "match"), rows(&since[..6]), "{why}");
            // No page says another total than was told, and none by whose number it is another one.
            for page in &rest {
                let total = &page["total"];
                assert!(total.is_null() || *total == before.len(), "{why}: {total}");
            }
            let is_last_told = rest.last().unwrap()["total"].is_u64();
            assert_eq!(is_last_told, style == "sealed", "{why}: {} are shown", 6 + found(&rest).len());
        }
    }
    by_a_number_of_ones_own(&ward, &first("offset"), &first("getpages"));
}

/// Who counts goes by what may be known now; a place is of its search and of whom it was given to.
fn by_a_number_of_ones_own(ward: &Client<'_>, offset: &Value, named: &Value) {
    let next = link(offset, "next").unwrap();
    let there = ward.page(&next.replace("_offset=6", "_offset=7"));
    assert_eq!(ids(&there, "match").first().unwrap(), "o07");
    let next = link(named, "next").unwrap();
    let (plain, place) = next.split_once("&_getpagesplace=").unwrap();
    assert_eq!(ids(&ward.page(plain), "match"), ids(&ward.page(&next), "match"));
    let further = next.replace("offset=6", "offset=8");
    assert_eq!(ids(&ward.page(&further), "match").first().unwrap(), "o08");
    assert_eq!(link(&ward.page(&next), "self").unwrap(), next);
    let other = ward.ask("GET", "/Observation?_count=6", &[("prefer", "hilum-paging=getpages")], "");
    let other = link(&said(&other), "next").unwrap();
    let of_other = other.split_once("&_getpagesplace=").unwrap().1;
    for place in [of_other, "A", &format!("A{place}")] {
        assert_eq!(
            ward.ask("GET", &format!("{plain}&_getpagesplace={place}"), &[], "").status,
            404,
            "{place}"
        );
    }
}
