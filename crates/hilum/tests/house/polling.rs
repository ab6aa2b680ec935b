//! Who asks again and again for what is new misses nothing, whatever is written meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::both::on_both_engines;
use crate::exchange::{bundle, entry};
use crate::fhir::{Client, said};
use crate::server::Server;

const ROUNDS: usize = 6;
const LARGE: usize = 150;
const SMALL: usize = 40;

fn basic(id: &str) -> Value {
    json!({"resourceType": "Basic", "id": id, "code": {"text": "x"}})
}

/// Polls until all writers are done, and once more.
fn polled(writing: &AtomicUsize, mut poll: impl FnMut()) {
    loop {
        let is_last = writing.load(Ordering::SeqCst) == 0;
        poll();
        if is_last {
            return;
        }
    }
}

#[test]
fn a_poller_by_last_updated_misses_no_slow_transaction() {
    on_both_engines(poll_beside_transactions);
}

fn poll_beside_transactions(server: &Server) {
    let client = &Client::new(server, "operator", "operator");
    let put = |id: &str| {
        let made = client.ask("PUT", &format!("/Basic/{id}"), &[], &basic(id).to_string());
        assert_eq!(made.status, 201, "{}", made.text());
    };
    put("first");
    let writing = &AtomicUsize::new(2);
    let (mut searched, mut listed) = (BTreeSet::new(), BTreeSet::new());
    std::thread::scope(|scope| {
        // Large ones are long under way, small ones overtake them.
        scope.spawn(move || {
            for round in 0..ROUNDS {
                let entries: Vec<Value> = (0..LARGE)
                    .map(|n| {
                        let id = format!("large-{round}-{n}");
                        entry("PUT", &format!("Basic/{id}"), &json!({"resource": basic(&id)}))
                    })
                    .collect();
                assert_eq!(client.ask("POST", "", &[], &bundle("transaction", &entries)).status, 200);
            }
            writing.fetch_sub(1, Ordering::SeqCst);
        });
        scope.spawn(move || {
            for n in 0..SMALL {
                put(&format!("small-{n}"));
            }
            writing.fetch_sub(1, Ordering::SeqCst);
        });
        let searched = &mut searched;
        scope.spawn(move || {
            let mut last = "2000-01-01T00:00:00Z".to_owned();
            polled(writing, || {
                let path = format!("/Basic?_lastUpdated=gt{last}&_sort=_lastUpdated&_count=1000");
                let page = said(&client.get(&path));
                for entry in page["entry"].as_array().into_iter().flatten() {
                    searched.insert(entry["resource"]["id"].as_str().unwrap().to_owned());
                    entry["resource"]["meta"]["lastUpdated"].as_str().unwrap().clone_into(&mut last);
                }
            });
        });
        let listed = &mut listed;
        scope.spawn(move || {
            let mut since = "2000-01-01T00:00:00Z".to_owned();
            polled(writing, || {
                // Newest first: where the next poll goes on from stands at the top of the first page.
                let (mut path, mut newest) = (format!("/Basic/_history?_since={since}&_count=100"), None);
                loop {
                    let page = said(&client.get(&path));
                    for entry in page["entry"].as_array().into_iter().flatten() {
                        listed.insert(entry["resource"]["id"].as_str().unwrap().to_owned());
                        newest.get_or_insert_with(|| {
                            entry["resource"]["meta"]["lastUpdated"].as_str().unwrap().to_owned()
                        });
                    }
                    let links = page["link"].as_array().unwrap();
                    let Some(next) = links.iter().find(|link| link["relation"] == "next") else { break };
                    next["url"].as_str().unwrap().split_once("/fhir").unwrap().1.clone_into(&mut path);
                }
                since = newest.unwrap_or_else(|| since.clone());
            });
        });
    });
    let all = ROUNDS * LARGE + SMALL + 1;
    assert_eq!((searched.len(), listed.len()), (all, all), "by _lastUpdated, by _since");
}
