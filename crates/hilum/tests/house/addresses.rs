//! References by full addresses: which of them are this server's own.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::both::on_both_engines;
use crate::exchange::{bundle, entry, statuses};
use crate::fhir::{Client, said};
use crate::server::{Server, Start};

const FHIR: (&str, &str) = ("content-type", "application/fhir+json");
const EVIL: (&str, &str) = ("host", "elsewhere.example");

fn note(id: &str, subject: &str) -> Value {
    json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"}, "valueString": subject,
        "subject": {"reference": subject}})
}

fn put(client: &Client<'_>, note: &Value, headers: &[(&str, &str)]) {
    let path = format!("/{}/{}", note["resourceType"].as_str().unwrap(), note["id"].as_str().unwrap());
    let headers: Vec<(&str, &str)> = headers.iter().copied().chain([FHIR]).collect();
    let made = client.ask("PUT", &path, &headers, &note.to_string());
    assert!([200, 201].contains(&made.status), "{path}: {}", made.text());
}

/// The ids of what is found, in order.
fn found(client: &Client<'_>, path: &str) -> Vec<String> {
    let page = said(&client.get(path));
    let entries = page["entry"].as_array().into_iter().flatten();
    let mut ids: Vec<String> =
        entries.map(|entry| entry["resource"]["id"].as_str().unwrap_or(path).to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn the_address_that_our_bundles_show_is_ours() {
    on_both_engines(own_address);
}

fn own_address(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    put(&client, &json!({"resourceType": "Patient", "id": "p"}), &[]);
    let shown = said(&client.get("/Patient?_id=p"));
    let full = shown["entry"][0]["fullUrl"].as_str().unwrap();
    put(&client, &note("by-full", full), &[]);
    let read = said(&client.get("/Observation/by-full"));
    assert_eq!(read["subject"]["reference"], "Patient/p", "as if it had been sent so");
    assert_eq!(read["valueString"], full, "a text is no reference");
    put(&client, &note("by-place", "Patient/p"), &[]);
    let entries = [
        entry("PUT", "Observation/by-bundle", &json!({"resource": note("by-bundle", full)})),
        entry("POST", "Observation", &json!({"resource": note("x", &format!("{full}/_history/1"))})),
    ];
    for kind in ["transaction", "batch"] {
        let done = said(&client.ask("POST", "", &[FHIR], &bundle(kind, &entries)));
        assert!(statuses(&done).iter().all(|status| status.starts_with("20")), "{done}");
    }
    let patch = json!([{"op": "add", "path": "/performer", "value": [{"reference": full}]}]);
    let media = ("content-type", "application/json-patch+json");
    assert_eq!(client.ask("PATCH", "/Observation/by-place", &[media], &patch.to_string()).status, 200);
    assert_eq!(said(&client.get("/Observation/by-place"))["performer"][0]["reference"], "Patient/p");
    for asked in ["Patient/p".to_owned(), "p".to_owned(), full.to_owned()] {
        let ids = found(&client, &format!("/Observation?subject={asked}&_count=20"));
        assert_eq!(ids.len(), 5, "{asked}: {ids:?}");
    }
    assert_eq!(found(&client, "/Observation?_id=by-full&_include=Observation:subject"), ["by-full", "p"]);

    // In a transaction what an entry calls itself comes first: it is not what stands there.
    let other = full.replace("/p", "/other");
    let entries = [
        entry("POST", "Patient", &json!({"fullUrl": other, "resource": {"resourceType": "Patient"}})),
        entry("PUT", "Observation/of-new", &json!({"resource": note("of-new", &other)})),
    ];
    let done = said(&client.ask("POST", "", &[FHIR], &bundle("transaction", &entries)));
    let location = done["entry"][0]["response"]["location"].as_str().unwrap();
    let subject =
        said(&client.get("/Observation/of-new"))["subject"]["reference"].as_str().unwrap().to_owned();
    assert!(subject != "Patient/other" && location.contains(&subject), "{location}: {subject}");

    // By another name one says of one's own body what one could have said anyway, and nobody else is led by it.
    let elsewhere = "http://elsewhere.example/fhir/Patient/p";
    put(&client, &note("far", elsewhere), &[]);
    put(&client, &note("forged", full), &[EVIL]);
    for id in ["far", "forged"] {
        let subject = said(&client.get(&format!("/Observation/{id}")))["subject"]["reference"].take();
        assert_eq!(subject, if id == "far" { elsewhere } else { full }, "{id}");
    }
    assert_eq!(found(&client, "/Observation?subject=Patient/p&_id=far,forged"), Vec::<String>::new());
    assert_eq!(found(&client, &format!("/Observation?subject={elsewhere}")), ["far"]);
    put(&client, &note("own-word", elsewhere), &[EVIL]);
    assert_eq!(said(&client.get("/Observation/own-word"))["subject"]["reference"], "Patient/p");
    // Nor does a patch of something else lead what stands elsewhere to us.
    let patch = json!([{"op": "replace", "path": "/status", "value": "amended"}]).to_string();
    assert_eq!(client.ask("PATCH", "/Observation/far", &[media, EVIL], &patch).status, 200);
    assert_eq!(said(&client.get("/Observation/far"))["subject"]["reference"], elsewhere);

    // A condition means what a search means: the second one is not made. The signs of an address may be escaped.
    let condition = format!("subject={full}&status=registered");
    let once = note("x", full).to_string().replace("\"final\"", "\"registered\"").replace('/', "\\/");
    for want in [201, 200] {
        let made = client.ask("POST", "/Observation", &[FHIR, ("if-none-exist", &condition)], &once);
        assert_eq!(made.status, want, "{}", made.text());
        assert_eq!(said(&made)["subject"]["reference"], "Patient/p");
    }
    for asked in ["subject:Patient=", "_has:Observation:subject:subject="] {
        let ty = if asked.starts_with('_') { "Patient" } else { "Observation" };
        let path = format!("/{ty}?{asked}{full}&_count=50");
        let (all, relative) = (found(&client, &path), found(&client, &path.replace(full, "Patient/p")));
        assert!(!relative.is_empty() && relative.iter().all(|id| all.contains(id)), "{path}: {all:?}");
    }
}

#[test]
fn where_addresses_are_configured_no_header_adds_one() {
    let folder = tempdir().unwrap();
    let config = "[fhir]\nbases = [\"https://hilum.example/fhir\"]\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let client = Client::new(&server, "operator", "operator");
    let (ours, theirs) = ("https://hilum.example/fhir/Patient/p", "http://elsewhere.example/fhir/Patient/p");
    for (id, subject) in [("ours", ours), ("theirs", theirs)] {
        put(&client, &note(id, subject), &[EVIL]);
        assert_eq!(said(&client.get(&format!("/Observation/{id}")))["subject"]["reference"], subject);
    }
    assert_eq!(found(&client, "/Observation?subject=Patient/p"), ["ours"]);
    assert_eq!(found(&client, &format!("/Observation?subject={theirs}")), ["theirs"]);
}
