//! The routes under `/fhir`: decode, call, encode.
//!
//! | file | what stands there |
//! |---|---|
//! | `ask` | what a request says: type, id, headers |
//! | `answer` | what goes out: a resource with its headers, or an OperationOutcome |
//! | `condition` | writes that go by what a search finds |
//! | `exchange` | batch and transaction |
//! | `form` | whole or in part, laid out or not |
//! | `history` | versions of a resource, of a type, and of all |
//! | `read` | read and vread, and what is shown to whom |
//! | `references` | whether what is written refers to something |
//! | `search` | search, page by page |
//! | `write` | create, update, patch, delete |
//! | `labels` | `$meta` of a type, and of all |
//! | `operations` | `$meta` and its kin, `$validate` |
//! | `capability` | what the server says that it can |

pub(crate) mod answer;
pub(crate) mod ask;
mod capability;
pub(crate) mod condition;
mod exchange;
mod form;
mod history;
mod labels;
mod operations;
mod read;
pub(crate) mod references;
mod search;
pub(crate) mod write;

pub use search::{Explained, Paging, Seen, Style, explain, is_parameter, pages, sweep};

use hilum_web::audit::Action;
use hilum_web::route::{Access, OPERATORS, READERS, Route, Surface};

use crate::Room;
use crate::limits::{BODY_BYTES_MAX, SEARCH_FORM_BYTES_MAX};

/// The routes under `/fhir`.
pub(crate) fn routes(room: &Room) -> Vec<Route> {
    let (readers, writers) = (Access::Roles(READERS), Access::Roles(OPERATORS));
    let (one, fhir) = ("/fhir/{type}/{id}", Surface::Fhir);
    vec![
        Route::get("/fhir/metadata", Access::Public, fhir, (), capability::metadata),
        Route::get("/fhir", readers, fhir, room.clone(), search::get_all).audit(Action::Search),
        // Some clients end the base address so.
        Route::get("/fhir/", readers, fhir, room.clone(), search::get_all).audit(Action::Search),
        Route::post("/fhir/", writers, fhir, room.clone(), exchange::take).body_bytes_max(BODY_BYTES_MAX),
        Route::post("/fhir/_search", readers, fhir, room.clone(), search::post_all)
            .audit(Action::Search)
            .body_bytes_max(SEARCH_FORM_BYTES_MAX),
        Route::get("/fhir/{type}/{id}/{of}", readers, fhir, room.clone(), search::get_within)
            .audit(Action::Search),
        Route::post("/fhir/{type}/{id}/{of}/_search", readers, fhir, room.clone(), search::post_within)
            .audit(Action::Search)
            .body_bytes_max(SEARCH_FORM_BYTES_MAX),
        Route::get("/fhir/{type}", readers, fhir, room.clone(), search::get).audit(Action::Search),
        Route::post("/fhir/{type}/_search", readers, fhir, room.clone(), search::post)
            .audit(Action::Search)
            .body_bytes_max(SEARCH_FORM_BYTES_MAX),
        Route::get("/fhir/_page/{token}", readers, fhir, room.clone(), search::page).audit(Action::Search),
        Route::get(one, readers, fhir, room.clone(), read::read),
        Route::get("/fhir/_history", readers, fhir, room.clone(), history::of_all).audit(Action::Search),
        Route::get("/fhir/{type}/_history", readers, fhir, room.clone(), history::of_type)
            .audit(Action::Search),
        Route::get("/fhir/{type}/{id}/_history", readers, fhir, room.clone(), history::of_one),
        Route::get("/fhir/Patient/{id}/$everything", readers, fhir, room.clone(), search::everything::begin),
        Route::post("/fhir/Patient/{id}/$everything", readers, fhir, room.clone(), search::everything::post)
            .audit(Action::Read),
        Route::get("/fhir/{type}/{id}/_history/{version}", readers, fhir, room.clone(), read::vread),
        Route::post("/fhir", writers, fhir, room.clone(), exchange::take).body_bytes_max(BODY_BYTES_MAX),
        Route::post("/fhir/{type}", writers, fhir, room.clone(), write::create)
            .body_bytes_max(BODY_BYTES_MAX),
        Route::put("/fhir/{type}", writers, fhir, room.clone(), write::update_where)
            .body_bytes_max(BODY_BYTES_MAX),
        Route::delete("/fhir/{type}", writers, fhir, room.clone(), write::delete_where),
        Route::patch("/fhir/{type}", writers, fhir, room.clone(), write::patch_where)
            .body_bytes_max(BODY_BYTES_MAX),
        Route::patch(one, writers, fhir, room.clone(), write::patch).body_bytes_max(BODY_BYTES_MAX),
        Route::put(one, writers, fhir, room.clone(), write::update).body_bytes_max(BODY_BYTES_MAX),
        Route::delete(one, writers, fhir, room.clone(), write::delete),
        // Nothing is read or kept: who may write may ask first.
        Route::post("/fhir/{type}/$validate", writers, fhir, (), operations::validate)
            .body_bytes_max(BODY_BYTES_MAX)
            .quiet(),
        Route::post("/fhir/{type}/{id}/$validate", writers, fhir, room.clone(), operations::validate_one)
            .body_bytes_max(BODY_BYTES_MAX)
            .audit(Action::Read),
        Route::get("/fhir/$meta", readers, fhir, room.clone(), labels::of_all).audit(Action::Search),
        Route::post("/fhir/$meta", readers, fhir, room.clone(), labels::of_all).audit(Action::Search),
        Route::get("/fhir/{type}/$meta", readers, fhir, room.clone(), labels::of_type).audit(Action::Search),
        Route::post("/fhir/{type}/$meta", readers, fhir, room.clone(), labels::of_type).audit(Action::Search),
        Route::get("/fhir/{type}/{id}/$meta", readers, fhir, room.clone(), operations::meta),
        Route::post("/fhir/{type}/{id}/$meta", readers, fhir, room.clone(), operations::meta)
            .audit(Action::Read),
        Route::post("/fhir/{type}/{id}/$meta-add", writers, fhir, room.clone(), operations::add),
        Route::post("/fhir/{type}/{id}/$meta-delete", writers, fhir, room.clone(), operations::delete),
    ]
}
