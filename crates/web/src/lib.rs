//! The server's shell: who asks, may they, what is written down, how it looks. Rooms bring [`route::Route`]s with
//! their handlers; [`shell::Shell::mount`] puts the same guard around each.
//!
//! | module | what lives there |
//! |---|---|
//! | [`shell`] | the state, handed in by the wiring; mounting |
//! | [`route`] | routes as data, and the table role × route |
//! | [`visit`] | one request as a handler sees it: [`visit::Caller`], [`visit::Visit`] |
//! | [`outcome`] | the one place that turns an error into an answer |
//! | [`page`] | the frame around every page |
//! | [`ui`] | components: patient banner, tags, states, time line, diff |
//! | [`words`] | Korean and English, dates and times |
//! | [`keys`], [`users`], [`session`] | API keys, accounts, sessions and one-time links |
//! | [`audit`] | who looked: append-only, hash-chained |
//! | [`forms`] | which forms would write what is typed into a URL: for tests |
//! | [`live`] | one event stream per visible page |
//! | [`listen`] | the HTTP listener |
//! | [`tables`] | what the shell keeps |
//! | [`limits`] | every bound |

pub mod assets;
pub mod audit;
mod cors;
pub mod forms;
mod guard;
pub mod keys;
pub mod limits;
pub mod listen;
pub mod live;
pub mod outcome;
pub mod page;
pub mod params;
pub mod route;
mod routes;
pub mod session;
pub mod shell;
mod sign_in;
mod store;
pub mod tables;
mod typing;
pub mod ui;
pub mod users;
pub mod visit;
pub mod words;

pub use guard::CSP;
pub use outcome::Fault;
pub use shell::Shell;
pub use store::StoreError;
pub use visit::{Caller, Visit};
