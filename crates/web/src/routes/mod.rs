//! The shell's own routes.

use crate::assets;
use crate::audit::Action;
use crate::live;
use crate::route::{ADMINS, Access, EVERYONE, READERS, Route, Surface};
use crate::shell::Shell;

mod admin;
mod audit;
mod gallery;
mod health;
mod password;
mod prefs;
mod sign_in;

/// What every process answers.
fn health() -> Vec<Route> {
    let (public, api) = (Access::Public, Surface::Api);
    vec![
        Route::get("/healthz", public, api, (), health::alive),
        Route::get("/readyz", public, api, (), health::ready),
        Route::get("/metrics", Access::LoopbackOr(ADMINS), api, (), health::metrics),
    ]
}

/// All that this process has.
pub(crate) fn all(shell: &Shell) -> Vec<Route> {
    let mut routes = if shell.has_windows() { windows(shell) } else { Vec::new() };
    routes.extend(health());
    routes
}

fn windows(shell: &Shell) -> Vec<Route> {
    let gallery = if shell.is_demo() { READERS } else { ADMINS };
    let (public, page, api) = (Access::Public, Surface::Page, Surface::Api);
    let admins = Access::Roles(ADMINS);
    vec![
        Route::get("/", public, page, (), sign_in::home),
        Route::get("/sign-in", public, page, (), sign_in::form),
        Route::post("/sign-in", public, page, (), sign_in::submit).audit(Action::SignIn),
        Route::get("/sign-in/link/{token}", public, page, (), sign_in::link),
        Route::post("/sign-in/link/{token}", public, page, (), sign_in::redeem).audit(Action::SignIn),
        Route::post("/sign-out", Access::Roles(EVERYONE), page, (), sign_in::out).audit(Action::SignIn),
        Route::get("/password", Access::Roles(EVERYONE), page, (), password::form).quiet(),
        Route::post("/password", Access::Roles(EVERYONE), page, (), password::submit).audit(Action::Admin),
        Route::post("/preferences", public, page, (), prefs::submit),
        Route::get("/audit", admins, page, (), audit::page).audit(Action::Admin).nav("nav.audit", 80),
        // POST, because what is typed must not stand in a URL.
        Route::post("/audit", admins, page, (), audit::find).audit(Action::Admin),
        Route::get("/api/audit", admins, api, (), audit::json).audit(Action::Admin),
        Route::get("/admin", admins, page, (), admin::page).audit(Action::Admin).nav("nav.admin", 90),
        Route::post("/admin/users", admins, page, (), admin::add_user).audit(Action::Admin),
        Route::post("/admin/users/state", admins, page, (), admin::set_state).audit(Action::Admin),
        Route::post("/admin/keys", admins, page, (), admin::add_key).audit(Action::Admin),
        Route::post("/admin/keys/revoke", admins, page, (), admin::revoke_key).audit(Action::Admin),
        Route::get("/gallery", Access::Roles(gallery), page, (), gallery::page).quiet().secret(),
        Route::get("/live", Access::Roles(READERS), Surface::Live, (), live::stream),
        Route::get("/assets/{version}/{name}", public, page, (), assets::serve),
        Route::get("/favicon.ico", public, page, (), assets::icon),
    ]
}
