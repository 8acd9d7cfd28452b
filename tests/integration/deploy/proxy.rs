//! The proxies, run for real in front of a daemon: TLS, the listener's path and
//! nothing else, and no way to hide who calls.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use futures_util::StreamExt;
use futures_util::stream;
use reqwest::{Certificate, Client};

use super::{Server, adapted, free_port, ran, said, text_of, tool};
use crate::harness::{Daemon, World, ask, dispatch, hint, in_ms, wait_until};

const SECRET: &str = "hush-7c21";
const NAME: &str = "hooks.example.com";
const HANDSHAKE: &str = r#"{"event":{"name":""},"resource":""}"#;

/// More than one peer may send at once (see `--peer-rate`).
const MANY: usize = 1300;

/// A daemon, a proxy before it, and a client that trusts the proxy.
struct Front {
    // Dropped before its folder is.
    _proxy: Server,
    world: World,
    daemon: Daemon,
    port: u16,
    client: Client,
}

/// How a proxy is started: with its own configuration adapted to `port`, the
/// daemon and the certificate in the world's folder.
type Start = fn(&World, &Daemon, port: u16) -> Command;

impl Front {
    async fn of(proxy: &str, start: Start) -> Self {
        // Before anything is started.
        tool(proxy);
        let world = World::new().await;
        let daemon = world
            .setup()
            .with("--webhook-secret", SECRET)
            .with("--peer-rate", 1)
            .flag("--trust-forwarded-for")
            .ready()
            .await;
        let certificate = certificate(&world);
        let port = free_port();
        let mut command = start(&world, &daemon, port);
        let proxy = Server::start(&mut command, world.path("proxy.log"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let client = dispatchd::http::client_builder()
            .no_proxy()
            .tls_certs_only([certificate])
            .resolve(NAME, address)
            .build()
            .unwrap();
        let front = Self {
            world,
            daemon,
            port,
            client,
            _proxy: proxy,
        };
        wait_until("the proxy answers", async || {
            front.client.get(front.url("/")).send().await.is_ok()
        })
        .await;
        front
    }

    fn url(&self, path: &str) -> String {
        format!("https://{NAME}:{}{path}", self.port)
    }

    fn listener(&self) -> String {
        self.url(&format!("/dispatch-listener/{SECRET}"))
    }

    async fn passes_webhooks_and_nothing_else(&self) {
        self.world.put(dispatch("d", 0, in_ms(60_000), None));
        let body = hint("/2022-04-15/dispatches/d");
        let webhook = ask(self.client.post(self.listener()).body(body)).await;
        assert_eq!(webhook.status, 200);
        assert_eq!(self.daemon.phase("d").await, "scheduled");
        for path in [
            "/",
            "/status",
            "/schedule",
            "/metrics",
            "/healthz",
            "/poll",
            "/dispatch-listeners",
            "/dispatch-listener/%2e%2e/status",
        ] {
            let answer = ask(self.client.post(self.url(path)).body(HANDSHAKE)).await;
            assert_eq!(answer.status, 404, "{path}");
        }
        // The listener's own word, from behind the proxy.
        let without = ask(self
            .client
            .post(self.url("/dispatch-listener"))
            .body(HANDSHAKE));
        assert_eq!(without.await.status, 404);
        let large = "x".repeat(70 * 1024);
        let large = ask(self.client.post(self.listener()).body(large)).await;
        assert_eq!(large.status, 413);
    }

    /// Whoever calls through the proxy is one peer, whatever he claims to be,
    /// and others still get through.
    async fn tells_who_calls_whatever_he_claims(&self) {
        let statuses: Vec<u16> = stream::iter(0..MANY)
            .map(async |caller| {
                let claimed = format!("198.51.{}.{}", caller / 250, caller % 250);
                let request = self.client.post(self.listener()).body(HANDSHAKE);
                ask(request.header("x-forwarded-for", claimed)).await.status
            })
            .buffer_unordered(16)
            .collect()
            .await;
        let count = |status| statuses.iter().filter(|seen| **seen == status).count();
        assert!(count(200) >= 900, "{} got through", count(200));
        assert!(count(429) >= 100, "{} were refused", count(429));
        assert_eq!(count(200) + count(429), MANY);
        // Who comes by another proxy is somebody else; he who called is not.
        let past = async |address: &str| {
            let url = format!("{}/{SECRET}", self.daemon.webhook_url());
            let request = self.daemon.http.post(url).body(HANDSHAKE);
            ask(request.header("x-forwarded-for", address)).await.status
        };
        assert_eq!(past("203.0.113.9").await, 200);
        let again = stream::iter(0..20).then(async |_| past("127.0.0.1").await);
        let again: Vec<u16> = again.collect().await;
        assert!(again.contains(&429), "{again:?}");
    }

    /// No log shows the secret, also when there is something to complain about:
    /// nobody is behind the proxy any more.
    async fn keeps_the_secret(&mut self) {
        self.daemon.kill();
        let answer = ask(self.client.post(self.listener()).body(HANDSHAKE)).await;
        assert_eq!(answer.status, 502);
        for entry in std::fs::read_dir(self.world.folder()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read_to_string(&path).unwrap();
                assert!(!log.contains(SECRET), "{}: {log}", path.display());
            }
        }
    }
}

/// Makes a certificate for [`NAME`], writes it down, and gives it.
fn certificate(world: &World) -> Certificate {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let pem = made.cert.pem();
    std::fs::write(world.path("fullchain.pem"), &pem).unwrap();
    let key = made.signing_key.serialize_pem();
    std::fs::write(world.path("privkey.pem"), key).unwrap();
    Certificate::from_pem(pem.as_bytes()).unwrap()
}

fn display(path: PathBuf) -> String {
    path.display().to_string()
}

fn nginx(world: &World, daemon: &Daemon, port: u16) -> Command {
    let site = adapted(
        &text_of("proxy/nginx.conf"),
        &[
            ("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl")),
            ("listen [::]:443 ssl;", ""),
            (
                "http://127.0.0.1:5000",
                &format!("http://{}", daemon.listener),
            ),
            (
                "/etc/letsencrypt/live/hooks.example.com/fullchain.pem",
                &display(world.path("fullchain.pem")),
            ),
            (
                "/etc/letsencrypt/live/hooks.example.com/privkey.pem",
                &display(world.path("privkey.pem")),
            ),
            (
                "/var/log/nginx/dispatchd.log",
                &display(world.path("nginx-site.log")),
            ),
        ],
    );
    std::fs::write(world.path("site.conf"), site).unwrap();
    let here = display(world.folder().to_owned());
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = folders.map(|name| format!("{name}_temp_path {here}/{name};"));
    let main = format!(
        "daemon off; master_process off; pid {here}/nginx.pid; error_log {here}/nginx.log;\n\
         events {{}}\nhttp {{ {} include site.conf; }}\n",
        folders.concat()
    );
    std::fs::write(world.path("nginx.conf"), main).unwrap();
    let mut command = tool("nginx");
    command
        .arg("-p")
        .arg(&here)
        .arg("-e")
        .arg(world.path("nginx.log"));
    command.arg("-c").arg(world.path("nginx.conf"));
    command
}

fn caddy(world: &World, daemon: &Daemon, port: u16) -> Command {
    let files = ["fullchain.pem", "privkey.pem"].map(|name| display(world.path(name)));
    let site = adapted(
        &text_of("proxy/Caddyfile"),
        &[
            (
                "\n{\n",
                "\n{\n\tadmin off\n\tauto_https disable_redirects\n",
            ),
            (
                "hooks.example.com {",
                &format!(
                    "https://{NAME}:{port} {{\n\tbind 127.0.0.1\n\ttls {}",
                    files.join(" ")
                ),
            ),
            ("127.0.0.1:5000", &daemon.listener.to_string()),
        ],
    );
    std::fs::write(world.path("Caddyfile"), site).unwrap();
    let mut command = tool("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]);
    command.arg(world.path("Caddyfile"));
    for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(variable, world.folder());
    }
    command
}

/// nginx refuses a configuration whose certificates are missing, and Debian's Caddy
/// brings a file of its own.
#[apply(test)]
fn the_readme_gets_a_certificate_before_nginx_needs_it_and_keeps_the_caddyfile_that_is_there() {
    let page = text_of("README.md");
    let at = |command: &str| {
        let found = page.find(command);
        found.unwrap_or_else(|| panic!("{command} is not there"))
    };
    let nginx = at("deploy/proxy/nginx.conf /etc/nginx/conf.d/");
    assert!(at("certbot certonly") < nginx && nginx < at("sudo nginx -t"));
    for line in page
        .lines()
        .filter(|line| line.contains("install -m 0644 "))
    {
        let ours = line.contains("/etc/systemd/system/");
        assert!(ours || line.contains("--backup=numbered"), "{line}");
    }
}

#[apply(test)]
async fn nginx_passes_webhooks_alone_and_tells_who_calls() {
    let mut front = Front::of("nginx", nginx).await;
    front.passes_webhooks_and_nothing_else().await;
    front.tells_who_calls_whatever_he_claims().await;
    front.keeps_the_secret().await;
}

#[apply(test)]
async fn caddy_passes_webhooks_alone_and_tells_who_calls() {
    let mut front = Front::of("caddy", caddy).await;
    front.passes_webhooks_and_nothing_else().await;
    front.tells_who_calls_whatever_he_claims().await;
    front.keeps_the_secret().await;
}

#[apply(test)]
fn caddy_accepts_its_file_as_it_is() {
    let file = super::path_of("proxy/Caddyfile");
    let arguments = ["validate", "--adapter", "caddyfile", "--config"];
    let mut arguments: Vec<&std::ffi::OsStr> = arguments.map(AsRef::as_ref).into();
    arguments.push(file.as_os_str());
    let output = ran("caddy", &arguments);
    assert!(output.status.success(), "{}", said(&output));
}
