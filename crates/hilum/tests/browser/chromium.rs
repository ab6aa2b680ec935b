//! One headless chromium with a profile of its own, driven over WebDriver.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::server::{Server, hilum};

const CHROMIUM: &str = "/usr/bin/chromium";
const CHROMEDRIVER: &str = "/usr/bin/chromedriver";

/// The password of the accounts that tests make.
const PASSWORD: &str = "a long enough secret";

/// The browser. It and its driver are ended when it goes out of scope.
pub struct Browser {
    pub client: Client,
    session: String,
    driver: Child,
    profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser in good order; what is left of it is found by its profile folder, which only it has.
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build();
        ureq::Agent::new_with_config(config).delete(&self.session).call().ok();
        self.driver.kill().ok();
        self.driver.wait().ok();
        for pid in pids_naming(self.profile.path()) {
            Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status().ok();
        }
    }
}

/// Processes whose command line has `path`.
fn pids_naming(path: &Path) -> Vec<u32> {
    let wanted = path.to_str().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let names = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(wanted)
    };
    pids.filter(names).collect()
}

/// A driver and its port; `None` when it ended at once.
fn start_driver() -> Option<(Child, u16)> {
    let mut driver = Command::new(CHROMEDRIVER)
        .args(["--port=0", "--log-level=SEVERE"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = lines.by_ref().find_map(|line| {
        let line = line.unwrap();
        let (_, port) = line.rsplit_once("successfully on port ")?;
        Some(port.trim_end_matches('.').parse().unwrap())
    });
    let Some(port) = port else {
        driver.wait().unwrap();
        return None;
    };
    // Its standard output stays open, so that it never writes into a closed pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Some((driver, port))
}

impl Browser {
    /// Starts one in English with a window of 1440 × 900.
    pub async fn start() -> Self {
        for (path, package) in [(CHROMIUM, "chromium"), (CHROMEDRIVER, "chromium-driver")] {
            assert!(Path::new(path).exists(), "{path} is missing: install the Debian package `{package}`");
        }
        let profile = tempdir().unwrap();
        // It takes a free port by one protocol and ends when the other has it: it is then started again.
        let (mut driver, port) = (0..5).find_map(|_| start_driver()).expect("chromedriver ended five times");
        let capabilities = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": {
                "binary": CHROMIUM,
                "args": [
                    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                    "--disable-background-networking", "--disable-component-update", "--no-first-run",
                    "--lang=en-US", "--accept-lang=en-US", "--window-size=1440,900",
                    format!("--user-data-dir={}", profile.path().display()),
                ],
            },
        });
        let capabilities: Capabilities = serde_json::from_value(capabilities).unwrap();
        let driver_url = format!("http://127.0.0.1:{port}");
        let client =
            ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&driver_url).await;
        let client = match client {
            Ok(client) => client,
            Err(why) => {
                driver.kill().ok();
                driver.wait().ok();
                panic!("chromium does not start: {why}");
            }
        };
        let id = client.session_id().await.unwrap().expect("a session has an id");
        Self { client, session: format!("{driver_url}/session/{id}"), driver, profile }
    }

    /// Makes an account of `role` on `server` and signs it in through the form.
    pub async fn sign_in(&self, server: &Server, role: &str) {
        self.sign_in_as(server, &format!("test-{role}"), role).await;
    }

    /// Makes an account of this name and `role`, and signs it in through the form.
    pub async fn sign_in_as(&self, server: &Server, name: &str, role: &str) {
        let mut add = hilum()
            .args(["users", "add", name, "--role", role, "--data"])
            .arg(&server.data)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        add.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
        let out = add.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        self.open(server, "/sign-in").await;
        self.type_into("#name", name).await;
        self.type_into("#password", PASSWORD).await;
        self.click("form[action='/sign-in'] button").await;
        self.wait("signed in", 10, "return !location.pathname.startsWith('/sign-in')").await;
    }

    /// Opens a page of `server`.
    pub async fn open(&self, server: &Server, path: &str) {
        let address = server.http.expect("a server with pages");
        self.client.goto(&format!("http://{address}{path}")).await.unwrap();
    }

    /// Clicks what `css` finds.
    pub async fn click(&self, css: &str) {
        self.client.find(Locator::Css(css)).await.unwrap().click().await.unwrap();
    }

    /// Types into what `css` finds.
    pub async fn type_into(&self, css: &str, text: &str) {
        self.client.find(Locator::Css(css)).await.unwrap().send_keys(text).await.unwrap();
    }

    /// Presses one key (a WebDriver code point) wherever the focus is.
    pub async fn key(&self, key: char) {
        let actions = KeyActions::new("keys".to_owned())
            .then(KeyAction::Down { value: key })
            .then(KeyAction::Up { value: key });
        self.client.perform_actions(actions).await.unwrap();
    }

    /// Sets a cookie of the page that is open.
    pub async fn cookie(&self, name: &str, value: &str) {
        self.run(&format!("document.cookie = '{name}={value}; path=/; samesite=strict'")).await;
    }

    /// Shows pages in a window of this size, narrower than a window of the desktop can be. Not as a phone does it: a
    /// phone makes its window as wide as a page that does not fit.
    pub fn size(&self, width: u32, height: u32) {
        let url = format!("{}/goog/cdp/execute", self.session);
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": metrics });
        ureq::post(&url).send(command.to_string()).unwrap();
    }

    /// Runs `script`; its `return` comes back.
    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// The text of the page as it is shown.
    pub async fn text(&self) -> String {
        self.run("return document.body.innerText").await.as_str().unwrap().to_owned()
    }

    /// Waits until `script` returns true; says how long that took.
    pub async fn wait(&self, what: &str, seconds: u64, script: &str) -> Duration {
        let from = Instant::now();
        loop {
            if self.run(script).await == Value::Bool(true) {
                return from.elapsed();
            }
            let is_in_time = from.elapsed() <= Duration::from_secs(seconds);
            assert!(is_in_time, "{what}: not within {seconds} s; the page says:\n{}", self.text().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the browser wrote to its log since the last call: violations of the content policy, failed loads,
    /// script errors, `console`.
    pub fn log(&self) -> Vec<String> {
        let url = format!("{}/se/log", self.session);
        let mut answer = ureq::post(&url).send(r#"{"type":"browser"}"#).unwrap();
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        let entries = answer["value"].as_array().expect("a list of entries");
        let said = |entry: &Value| format!("{} {}", entry["level"], entry["message"]);
        entries.iter().map(said).collect()
    }

    /// The same of a test that left a page while it polled: a request that ends so is no complaint. htmx names it by two
    /// events, one that failed by another second one.
    pub fn log_but_of_leaving(&self) -> Vec<String> {
        let mut log = self.log();
        let of = |event: &'static str| move |said: &String| said.contains(event);
        while let Some(at) = log.iter().position(of("htmx:sendAbort")) {
            log.remove(at);
            let ended =
                log.iter().position(of("htmx:afterRequest")).expect("htmx says that the request ended");
            log.remove(ended);
        }
        log
    }
}
