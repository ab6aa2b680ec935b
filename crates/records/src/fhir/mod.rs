//! The routes under `/fhir`: decode, call, encode.
//!
//! | file | what stands there |
//! |---|---|
//! | `ask` | what a request says: type, id, headers |
//! | `answer` | what goes out: a resource with its headers, or an OperationOutcome |
//! | `condition` | writes that go by what a search finds |
//! | `exchange` | batch and transaction |
//! | `read` | read, vread, history of a resource |
//! | `search` | search, page by page |
//! | `write` | create, update, delete, `$validate` |
//! | `capability` | what the server says that it can |

mod answer;
mod ask;
mod capability;
mod condition;
mod exchange;
mod read;
mod search;
mod write;

use hilum_web::audit::Action;
use hilum_web::route::{Access, OPERATORS, READERS, Route, Surface};

use crate::Room;
use crate::limits::{BODY_BYTES_MAX, SEARCH_FORM_BYTES_MAX};

/// All routes of the room.
pub fn routes(room: &Room) -> Vec<Route> {
    let (readers, writers) = (Access::Roles(READERS), Access::Roles(OPERATORS));
    let (one, fhir) = ("/fhir/{type}/{id}", Surface::Fhir);
    vec![
        Route::get("/fhir/metadata", Access::Public, fhir, (), capability::metadata),
        Route::get("/fhir/{type}", readers, fhir, room.clone(), search::get).audit(Action::Search),
        Route::post("/fhir/{type}/_search", readers, fhir, room.clone(), search::post)
            .audit(Action::Search)
            .body_bytes_max(SEARCH_FORM_BYTES_MAX),
        Route::get("/fhir/_page/{token}", readers, fhir, room.clone(), search::page).audit(Action::Search),
        Route::get(one, readers, fhir, room.clone(), read::read),
        Route::get("/fhir/{type}/{id}/_history", readers, fhir, room.clone(), read::history),
        Route::get("/fhir/{type}/{id}/_history/{version}", readers, fhir, room.clone(), read::vread),
        Route::post("/fhir", writers, fhir, room.clone(), exchange::take).body_bytes_max(BODY_BYTES_MAX),
        Route::post("/fhir/{type}", writers, fhir, room.clone(), write::create)
            .body_bytes_max(BODY_BYTES_MAX),
        Route::put("/fhir/{type}", writers, fhir, room.clone(), write::update_where)
            .body_bytes_max(BODY_BYTES_MAX),
        Route::delete("/fhir/{type}", writers, fhir, room.clone(), write::delete_where),
        Route::put(one, writers, fhir, room.clone(), write::update).body_bytes_max(BODY_BYTES_MAX),
        Route::delete(one, writers, fhir, room.clone(), write::delete),
        // Nothing is read or kept: who may write may ask first.
        Route::post("/fhir/{type}/$validate", writers, fhir, (), write::validate)
            .body_bytes_max(BODY_BYTES_MAX)
            .quiet(),
    ]
}
