//! The clinical rules, each as messages in and board, encounters and work out, through the whole projection.
#![allow(clippy::unwrap_used, clippy::string_slice)]

mod harness;

use harness::{House, Msg};

fn msg(event: &'static str, control: &str, at: &str, patient: &str, visit: &str) -> Msg {
    Msg::new(event, control, at, patient, visit)
}

/// Sends the messages, once in order and once turned round, and gives the census of both.
async fn census_of(messages: &[String]) -> Vec<String> {
    let forward = House::new();
    for message in messages {
        forward.send(message).await;
        forward.run().await;
    }
    let backward = House::new();
    for message in messages.iter().rev() {
        backward.send(message).await;
        backward.run().await;
    }
    assert_eq!(forward.canonical().await, backward.canonical().await, "the order of arrival has a part");
    for m in forward.messages().await {
        println!("{m:?}");
    }
    forward.census().await
}

#[tokio::test]
async fn an_admission_stands_on_the_board() {
    let census = census_of(&[msg("A01", "1", "010800", "1", "V1").at("W1^101^1^H").text()]).await;
    assert_eq!(census, ["inpatient W1-101-1 I in-progress Kim, Min"]);
}
