//! Accounts and API keys.

use askama::Template;
use axum::Form;
use axum::http::StatusCode;
use axum::response::Response;
use hilum_core::{Kind, Role};
use serde::Deserialize;

use crate::keys::{self, ApiKey};
use crate::outcome::{Fault, own};
use crate::store::StoreError;
use crate::users::{self, Account};
use crate::visit::Caller;
use crate::words::Words;

#[derive(Template)]
#[template(path = "admin.html")]
struct AdminPage {
    w: Words,
    csrf: String,
    me: String,
    accounts: Vec<Account>,
    keys: Vec<ApiKey>,
    roles: [Role; 4],
    /// A key that was just made: name and key, shown this once.
    new_key: Option<(String, String)>,
    /// An account that was just made: name and its one-time link's path.
    new_link: Option<(String, String)>,
    problem: Option<&'static str>,
}

#[derive(Default)]
struct News {
    key: Option<(String, String)>,
    link: Option<(String, String)>,
    problem: Option<&'static str>,
}

async fn answer(caller: &Caller, news: News) -> Result<Response, Fault> {
    let tables = caller.shell().tables();
    let page = AdminPage {
        w: caller.words(),
        csrf: caller.csrf(),
        me: caller.authority.principal().to_owned(),
        accounts: users::list(tables).await?,
        keys: keys::list(tables).await?,
        roles: Role::ALL,
        new_key: news.key,
        new_link: news.link,
        problem: news.problem,
    };
    let status = if news.problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(own(caller.page(caller.words().t("admin.title")).under("/admin").status(status).body(&page)?))
}

fn problem_of(error: StoreError) -> Result<News, Fault> {
    let problem = match error {
        StoreError::Name => "admin.bad_name",
        StoreError::Exists => "admin.exists",
        StoreError::Absent => "admin.absent",
        other => return Err(other.into()),
    };
    Ok(News { problem: Some(problem), ..News::default() })
}

/// `GET /admin`.
pub async fn page(caller: Caller) -> Result<Response, Fault> {
    answer(&caller, News::default()).await
}

/// A name and a role.
#[derive(Debug, Deserialize)]
pub struct New {
    name: String,
    role: String,
}

impl New {
    fn role(&self) -> Result<Role, Fault> {
        self.role.parse().map_err(|_| Fault::new(Kind::Invalid))
    }
}

/// `POST /admin/users`: an account without a password, and the one-time link by which its owner comes in and sets
/// one; nobody else ever knows it.
pub async fn add_user(caller: Caller, Form(new): Form<New>) -> Result<Response, Fault> {
    let role = new.role()?;
    let shell = caller.shell();
    let (tables, clock, entropy) = (shell.tables(), shell.clock(), shell.entropy());
    let name = new.name.trim();
    if let Err(error) = users::add(tables, clock, entropy, name, role, None).await {
        return answer(&caller, problem_of(error)?).await;
    }
    caller.detail(format!("account={name} role={role}"));
    let token = crate::session::link(tables, clock, entropy, name).await?;
    let link = Some((name.to_owned(), format!("/sign-in/link/{token}")));
    answer(&caller, News { link, ..News::default() }).await
}

/// An account and what it should be.
#[derive(Debug, Deserialize)]
pub struct State {
    name: String,
    state: String,
}

/// `POST /admin/users/state`: `disabled`, `enabled`, or `link` (another one-time link).
pub async fn set_state(caller: Caller, Form(given): Form<State>) -> Result<Response, Fault> {
    let shell = caller.shell();
    let (tables, clock, entropy) = (shell.tables(), shell.clock(), shell.entropy());
    let name = given.name.as_str();
    let result = match given.state.as_str() {
        "disabled" if name == caller.authority.principal() => {
            return answer(&caller, News { problem: Some("admin.not_yourself"), ..News::default() }).await;
        }
        "disabled" => users::set_disabled(tables, clock, name, true).await.map(|()| None),
        "enabled" => users::set_disabled(tables, clock, name, false).await.map(|()| None),
        "link" => crate::session::link(tables, clock, entropy, name).await.map(Some),
        _ => return Err(Fault::new(Kind::Invalid)),
    };
    match result {
        Ok(token) => {
            caller.detail(format!("account={name} {}", given.state));
            let link = token.map(|token| (name.to_owned(), format!("/sign-in/link/{token}")));
            answer(&caller, News { link, ..News::default() }).await
        }
        Err(error) => answer(&caller, problem_of(error)?).await,
    }
}

/// `POST /admin/keys`.
pub async fn add_key(caller: Caller, Form(new): Form<New>) -> Result<Response, Fault> {
    let role = new.role()?;
    let shell = caller.shell();
    let name = new.name.trim();
    match keys::add(shell.tables(), shell.clock(), shell.entropy(), name, role).await {
        Ok(key) => {
            caller.detail(format!("key={name} role={role}"));
            answer(&caller, News { key: Some((name.to_owned(), key)), ..News::default() }).await
        }
        Err(error) => answer(&caller, problem_of(error)?).await,
    }
}

/// A key's name.
#[derive(Debug, Deserialize)]
pub struct Named {
    name: String,
}

/// `POST /admin/keys/revoke`.
pub async fn revoke_key(caller: Caller, Form(given): Form<Named>) -> Result<Response, Fault> {
    let shell = caller.shell();
    match keys::revoke(shell.tables(), shell.clock(), &given.name).await {
        Ok(()) => {
            caller.detail(format!("key={} revoked", given.name));
            answer(&caller, News::default()).await
        }
        Err(error) => answer(&caller, problem_of(error)?).await,
    }
}
