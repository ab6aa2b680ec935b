//! The HTTP door: `POST /hl7v2`. The body is one message: its bytes (`application/hl7-v2`), or JSON
//! `{"message": "…"}` whose text is Unicode already. Each answer's body is the acknowledgment, whatever its status.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use hilum_core::{ContentType, Kind, Position, Role, TraceContext};
use hilum_web::outcome::{Fault, own};
use hilum_web::route::{Access, Route, Surface};
use hilum_web::visit::Caller;
use serde::Deserialize;

use crate::accept::{AcceptError, Door, Incoming, messages};
use crate::held::HeldBody;
use crate::limits;
use crate::sources::Came;

/// Who may send messages in.
pub const SENDERS: &[Role] = &[Role::Feed, Role::Operator, Role::Admin];

/// `POST /hl7v2`.
pub fn route(door: Door) -> Route {
    // The door reads the body itself, so that an answer to one that is too large is an acknowledgment too.
    Route::post("/hl7v2", Access::Roles(SENDERS), Surface::Door, door, post).body_bytes_max(usize::MAX)
}

/// The JSON form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    message: String,
}

async fn post(
    State(door): State<Door>,
    caller: Caller,
    connection: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let peer = connection.map(|Extension(ConnectInfo(peer))| peer);
    let came =
        Came { listener: None, key: Some(caller.authority.principal()), peer: peer.map(|peer| peer.ip()) };
    let source = Arc::clone(door.sources().find(&came));
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = match media_type.as_str() {
        "application/hl7-v2" | "application/hl7-v2+er7" | "x-application/hl7-v2+er7" => false,
        "application/json" => true,
        _ => {
            return Fault::worded(Kind::Invalid, "hl7v2_type")
                .status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
                .into_response();
        }
    };
    // Before the body is read: what cannot be kept is not taken in.
    if !door.is_open(limits::HTTP_BUFFER_BYTES_MAX) {
        return answer(StatusCode::SERVICE_UNAVAILABLE, Some(door.not_now(&source)), None);
    }
    let bytes_max = door.message_bytes_max() * if is_json { 2 } else { 1 };
    // What it holds counts until it is answered.
    let mut held = door.body(caller.authority.principal());
    let body = match read(body, bytes_max, &mut held).await {
        Ok(body) => body,
        Err(NotRead::TooLarge { head }) => {
            return answer(StatusCode::PAYLOAD_TOO_LARGE, Some(door.too_large(&source, &head)), None);
        }
        Err(NotRead::Full) => {
            return answer(StatusCode::SERVICE_UNAVAILABLE, Some(door.not_now(&source)), None);
        }
        Err(NotRead::Broken) => return Fault::new(Kind::Invalid).into_response(),
    };
    let (body, content_type) = if is_json {
        match serde_json::from_slice::<Json>(&body) {
            Ok(Json { message }) => {
                drop(body); // counted once, held once
                (Bytes::from(message), ContentType::Hl7v2Unicode)
            }
            // The error's text may quote the message.
            Err(_) => return Fault::worded(Kind::Invalid, "hl7v2_json").into_response(),
        }
    } else {
        (body, ContentType::Hl7v2)
    };
    let mut answers = Vec::new();
    for body in messages(body) {
        let incoming = Incoming {
            body,
            content_type,
            source: Arc::clone(&source),
            peer: peer.map(|peer| peer.to_string()),
            received: door.now(),
            trace: trace(&headers),
            replaces: None,
        };
        answers.push(one(&door, incoming).await);
    }
    match answers.as_mut_slice() {
        [(status, ack, position)] => answer(*status, ack.take(), *position),
        // A batch: the worst status, and one acknowledgment after the other.
        answers => {
            let status = answers.iter().map(|(status, ..)| *status).max().unwrap_or(StatusCode::BAD_REQUEST);
            let acks: Vec<Bytes> = answers.iter_mut().filter_map(|(_, ack, _)| ack.take()).collect();
            answer(status, Some(acks.concat().into()), None)
        }
    }
}

async fn one(door: &Door, incoming: Incoming) -> (StatusCode, Option<Bytes>, Option<Position>) {
    match door.accept(incoming).await {
        Ok(accepted) => {
            let status = match &accepted.refusal {
                None => StatusCode::OK,
                Some(_) if !accepted.is_message => StatusCode::BAD_REQUEST,
                Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
            };
            (status, accepted.ack, Some(accepted.position))
        }
        Err(AcceptError::TooLarge { ack, .. }) => (StatusCode::PAYLOAD_TOO_LARGE, Some(ack), None),
        Err(AcceptError::NotKept { ack, .. }) => (StatusCode::SERVICE_UNAVAILABLE, Some(ack), None),
    }
}

enum NotRead {
    TooLarge {
        head: Bytes,
    },
    /// Too many bytes of bodies are held already, of this key or of all.
    Full,
    Broken,
}

/// Reads a body up to `bytes_max`; of a larger one its head, so that it can be answered.
async fn read(body: Body, bytes_max: usize, held: &mut HeldBody) -> Result<Bytes, NotRead> {
    let mut stream = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| NotRead::Broken)?;
        if whole.len() + chunk.len() > bytes_max {
            whole.extend_from_slice(&chunk);
            whole.truncate(limits::HTTP_HEAD_BYTES);
            return Err(NotRead::TooLarge { head: whole.freeze() });
        }
        whole.extend_from_slice(&chunk);
        if !held.set(whole.len()) {
            return Err(NotRead::Full);
        }
    }
    Ok(whole.freeze())
}

/// The W3C trace context, if it is one.
fn trace(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    TraceContext::parse(value).map(|context| context.to_string())
}

fn answer(status: StatusCode, ack: Option<Bytes>, position: Option<Position>) -> Response {
    let mut response = match ack {
        Some(ack) => (status, [(header::CONTENT_TYPE, "application/hl7-v2")], ack).into_response(),
        // Enhanced mode with MSH-15 NE: kept, and no acknowledgment asked for.
        None => status.into_response(),
    };
    let headers = response.headers_mut();
    if let Some(position) = position.and_then(|position| HeaderValue::try_from(position.to_string()).ok()) {
        headers.insert("hilum-position", position);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(limits::HTTP_RETRY_AFTER_S));
    }
    own(response)
}
