//! Changing one's own password.

use askama::Template;
use axum::Form;
use axum::http::{StatusCode, header};
use axum::response::Response;
use serde::Deserialize;

use super::sign_in;
use crate::limits;
use crate::outcome::{Fault, own};
use crate::store::StoreError;
use crate::users;
use crate::visit::Caller;
use crate::words::Words;

/// The form.
#[derive(Debug, Deserialize)]
pub struct Change {
    #[serde(default)]
    old: String,
    #[serde(default)]
    new: String,
    #[serde(default)]
    again: String,
}

#[derive(Template)]
#[template(path = "password.html")]
struct PasswordPage {
    w: Words,
    csrf: String,
    name: String,
    has_password: bool,
    chars_min: usize,
    problem: Option<&'static str>,
    is_done: bool,
}

async fn answer(caller: &Caller, problem: Option<&'static str>, is_done: bool) -> Result<Response, Fault> {
    let account = users::get(caller.shell().tables(), caller.authority.principal()).await?;
    let page = PasswordPage {
        w: caller.words(),
        csrf: caller.csrf(),
        name: caller.authority.principal().to_owned(),
        has_password: account.is_some_and(|account| account.has_password),
        chars_min: limits::PASSWORD_CHARS_MIN,
        problem,
        is_done,
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(own(caller.page(caller.words().t("password.title")).status(status).body(&page)?))
}

/// `GET /password`.
pub async fn form(caller: Caller) -> Result<Response, Fault> {
    answer(&caller, None, false).await
}

/// `POST /password`: every session of the account ends, and this browser gets a new one.
pub async fn submit(caller: Caller, Form(given): Form<Change>) -> Result<Response, Fault> {
    let shell = caller.shell().clone();
    let name = caller.authority.principal().to_owned();
    let (peer, now) = (caller.0.peer, caller.at());
    let Some(account) = users::get(shell.tables(), &name).await? else {
        return answer(&caller, Some("password.no_account"), false).await; // an API key has no password
    };
    if given.new != given.again {
        return answer(&caller, Some("password.differ"), false).await;
    }
    if account.has_password {
        if shell.failures().must_wait_s(peer, &name, now).is_some() {
            return answer(&caller, Some("password.wait"), false).await;
        }
        shell.failures().failed(peer, &name, now);
        if shell.passwords().verify(shell.tables(), &name, &given.old).await?.is_none() {
            return answer(&caller, Some("password.wrong"), false).await;
        }
        shell.failures().succeeded(peer, &name);
    }
    let changed =
        users::set_password(shell.tables(), shell.clock(), shell.entropy(), &name, &given.new).await;
    match changed {
        Ok(()) => {}
        Err(StoreError::Password(wrong)) => return answer(&caller, Some(wrong.word()), false).await,
        Err(error) => return Err(error.into()),
    }
    let cookie = sign_in::begin(&caller, &account).await?;
    let mut response = answer(&caller, None, true).await?;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}
