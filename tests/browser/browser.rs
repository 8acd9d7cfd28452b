//! A headless Chromium, told what to do in the words of WebDriver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::need;

/// It is ended when this is dropped.
pub struct Browser {
    driver: Child,
    session: String,
    http: reqwest::Client,
    _profile: TempDir,
}

/// A driver, and the port at which it listens. `None` if it ended instead.
fn start_driver() -> Option<(Child, String)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = lines.map_while(Result::ok).find_map(|line| {
        let port = line.split_once("successfully on port ")?.1;
        Some(port.trim_end_matches('.').to_owned())
    });
    if port.is_none() {
        driver.wait().unwrap();
    }
    Some((driver, port?))
}

impl Browser {
    /// A browser with an empty profile.
    pub async fn open() -> Self {
        for part in ["chromium", "chromedriver"] {
            let there = Command::new(part).arg("--version").output().is_ok();
            need(part, there);
        }
        // It listens at the same port by IPv4 and IPv6. If one of them is taken, it ends.
        let (driver, port) = (0..5).find_map(|_| start_driver()).unwrap();
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self {
            driver,
            session: String::new(),
            http: dispatchd::http::client_builder()
                .no_proxy()
                .build()
                .unwrap(),
            _profile: profile,
        };
        let base = format!("http://127.0.0.1:{port}/session");
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", profile,
            ]},
        }}});
        browser.session.clone_from(&base);
        let session = browser.command("", capabilities).await;
        browser.session = format!("{base}/{}", session["sessionId"].as_str().unwrap());
        browser
    }

    async fn command(&self, path: &str, body: Value) -> Value {
        let request = self
            .http
            .post(format!("{}{path}", self.session))
            .json(&body);
        let reply: Value = request.send().await.unwrap().json().await.unwrap();
        assert!(
            reply["value"]["error"].is_null(),
            "{path}: {}",
            reply["value"]["message"]
        );
        reply["value"].clone()
    }

    /// Opens an address.
    pub async fn go(&self, url: &str) {
        self.command("/url", json!({"url": url})).await;
    }

    /// Runs a script in the page, and gives what it returns.
    pub async fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", json!({"script": script, "args": []}))
            .await
    }

    /// Types into whatever has the focus.
    pub async fn press(&self, key: &str) {
        let actions = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        let keys = json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]});
        self.command("/actions", keys).await;
    }

    /// What the page looks like: its size, and `dark` or `light`.
    pub async fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", scheme).await;
    }

    /// A picture of what is in sight, in Base64.
    pub async fn picture(&self) -> String {
        let picture = self.devtools("Page.captureScreenshot", json!({})).await;
        picture["data"].as_str().unwrap().to_owned()
    }

    async fn devtools(&self, command: &str, params: Value) -> Value {
        let body = json!({"cmd": command, "params": params});
        self.command("/goog/cdp/execute", body).await
    }

    /// Without async, for want of it in a drop.
    fn end_session(&self) -> std::io::Result<()> {
        let address = self.session.trim_start_matches("http://");
        let (host, path) = address.split_once('/').unwrap_or((address, ""));
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "DELETE /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }

    /// What went wrong in pages, by the browser's own account: scripts that
    /// failed, and what a policy forbade.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.command("/se/log", json!({"type": "browser"})).await;
        let complaints = log.as_array().unwrap().iter();
        complaints.map(|line| line["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session; killed alone, the driver leaves it.
        let _ = self.end_session();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
