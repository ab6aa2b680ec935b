//! A shell with a clock that a test moves, and a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path};
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use hilum_core::{Clock, Entropy, Id, Kind, Role, Timestamp};
use hilum_engines::tables::sqlite::{Options, Place, Sqlite};
use hilum_engines::tables::{Table, Tables};
use hilum_web::audit::Action;
use hilum_web::live::Topic;
use hilum_web::outcome::own;
use hilum_web::route::{Access, FEEDS, OPERATORS, READERS, Route, RouteInfo, Surface};
use hilum_web::session::{self, SessionSecret};
use hilum_web::shell::{Parts, Probes, Settings, Shell};
use hilum_web::{Caller, Fault, Visit, keys, tables, users};
use tower::ServiceExt as _;

pub const START: i64 = 1_800_000_000_000_000;

pub struct Bench {
    pub shell: Shell,
    pub router: Router,
    pub table: Vec<&'static RouteInfo>,
    pub rows: Tables,
    pub audit: Tables,
    micros: Arc<AtomicI64>,
    pub disk_fails: Arc<AtomicBool>,
}

/// An answer, read whole.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn cookie(&self) -> String {
        let cookies = self.headers.get_all(header::SET_COOKIE);
        let set = cookies.iter().map(|value| value.to_str().unwrap()).find(|value| value.contains("hilum="));
        set.expect("a session cookie").split(';').next().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The token in the page's forms.
    pub fn csrf(&self) -> String {
        let (_, after) = self.body.split_once("name=\"_csrf\" value=\"").expect("a form with a token");
        after.split('"').next().unwrap().to_owned()
    }
}

pub fn memory(schema: &[&'static Table], disk_fails: &Arc<AtomicBool>) -> Tables {
    let fails = Arc::clone(disk_fails);
    let fault: hilum_engines::sqlite_file::Fault =
        Arc::new(
            move |_: &str| {
                if fails.load(Ordering::SeqCst) { Err(std::io::Error::other("planted")) } else { Ok(()) }
            },
        );
    let options = Options { fault: Some(fault), ..Options::default() };
    Tables::Sqlite(Sqlite::open(Place::Memory, schema, options).unwrap())
}

/// Routes as a room would bring them.
pub fn sample() -> Vec<Route> {
    async fn census(caller: Caller) -> Result<axum::response::Response, Fault> {
        caller.saw_rows(2);
        caller.json(&serde_json::json!({"encounters": []}))
    }
    async fn patient(caller: Caller, Path(id): Path<Id>) -> Result<axum::response::Response, Fault> {
        caller.saw(id);
        caller.json(&serde_json::json!({"id": id}))
    }
    async fn decide(caller: Caller) -> String {
        caller.authority.principal().to_owned()
    }
    async fn door(caller: Caller, body: bytes::Bytes) -> axum::response::Response {
        use axum::response::IntoResponse as _;
        let text = format!("ACK for {} to {}", body.len(), caller.authority.principal());
        own((StatusCode::UNPROCESSABLE_ENTITY, text).into_response())
    }
    async fn search(
        _: Caller,
        axum::Json(asked): axum::Json<Vec<u32>>,
    ) -> Result<axum::response::Response, Fault> {
        if asked.is_empty() {
            return Err(Fault::because(Kind::Internal, &"planted"));
        }
        panic!("planted panic {}", asked.len());
    }
    async fn typing(caller: Caller, form: axum::Form<Vec<(String, String)>>) -> String {
        for (name, value) in form.0 {
            match name.as_str() {
                "q" => caller.typed(&value),
                _ => caller.saw(value.parse().unwrap()),
            }
        }
        String::new()
    }
    async fn slow(_: Visit) -> &'static str {
        tokio::time::sleep(Duration::from_secs(5)).await;
        "late"
    }
    let (readers, page, api) = (Access::Roles(READERS), Surface::Page, Surface::Api);
    vec![
        Route::get("/census", readers, page, (), census).nav("nav.census", 10),
        Route::get("/api/census", readers, api, (), census),
        Route::get("/patients/{id}", readers, page, (), patient),
        Route::post("/decide/{id}", Access::Roles(OPERATORS), page, (), decide),
        Route::post("/api/search", readers, api, (), search).audit(Action::Search).body_bytes_max(4_096),
        Route::post("/typing", readers, page, (), typing).audit(Action::Search),
        Route::post("/hl7v2", Access::Roles(FEEDS), Surface::Door, (), door),
        Route::get("/slow", readers, api, (), slow).timeout(Duration::from_millis(50)),
    ]
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let micros = Arc::new(AtomicI64::new(START));
        let read = Arc::clone(&micros);
        let clock = Clock::new(move || Timestamp::from_micros(read.load(Ordering::SeqCst)));
        let disk_fails = Arc::new(AtomicBool::new(false));
        let rows = memory(tables::ALL, &Arc::new(AtomicBool::new(false)));
        let audit = memory(tables::AUDIT_ALL, &disk_fails);
        let parts = Parts {
            clock,
            entropy: Entropy::seeded(7),
            tables: rows.clone(),
            audit: audit.clone(),
            secret: SessionSecret::new([9; 32]),
            settings,
            words: Vec::new(),
            topics: vec![
                Topic { name: "adt.board", roles: READERS, ids: READERS },
                Topic { name: "adt.work", roles: OPERATORS, ids: OPERATORS },
                Topic { name: "adt.masked", roles: READERS, ids: OPERATORS },
            ],
            probes: Probes::default(),
        };
        let shell = Shell::start(parts).await.unwrap();
        let mounted = shell.mount(sample());
        Self { shell, router: mounted.router, table: mounted.table, rows, audit, micros, disk_fails }
    }

    pub fn clock(&self) -> &Clock {
        self.shell.clock()
    }

    pub fn pass(&self, time: Duration) {
        self.micros.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }

    pub async fn key(&self, role: Role) -> String {
        keys::add(&self.rows, self.clock(), self.shell.entropy(), role.as_str(), role).await.unwrap()
    }

    pub async fn account(&self, name: &str, role: Role, password: Option<&str>) {
        users::add(&self.rows, self.clock(), self.shell.entropy(), name, role, password).await.unwrap();
    }

    /// Signs in by link and gives the cookie.
    pub async fn sign_in(&self, name: &str) -> String {
        let token = session::link(&self.rows, self.clock(), self.shell.entropy(), name).await.unwrap();
        let answer = self.post(&format!("/sign-in/link/{token}"), &[], "").await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        answer.cookie()
    }

    pub async fn send(&self, request: Request<Body>) -> Response<Body> {
        let mut request = request;
        let peer: std::net::SocketAddr = "192.0.2.7:40000".parse().unwrap();
        if request.extensions().get::<ConnectInfo<std::net::SocketAddr>>().is_none() {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn ask(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.send(request).await.into_parts();
        let body = axum::body::to_bytes(body, 1 << 22).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(request("GET", path, headers, Body::empty())).await
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], form: &str) -> Answer {
        let form_type = ("content-type", "application/x-www-form-urlencoded");
        let typed = headers.iter().any(|(name, _)| *name == "content-type");
        let all: Vec<_> = headers.iter().copied().chain((!typed).then_some(form_type)).collect();
        self.ask(request("POST", path, &all, Body::from(form.to_owned()))).await
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path).header("host", "hilum.test");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body).unwrap()
}
