//! The same over TLS, with a certificate made for the purpose.

use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

/// The port, for the process that trusts the certificate.
const PORT: &str = "TEST_MQTTS_PORT";

fn openssl(dir: &Path, arguments: &str) -> bool {
    let ran = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    ran.is_ok_and(|status| status.success())
}

/// An authority, and a certificate by it for 127.0.0.1.
fn certificates(dir: &Path) -> bool {
    std::fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        dir,
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=ca",
    ) && openssl(
        dir,
        "req -new -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=b",
    ) && openssl(
        dir,
        "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile names -out tls.crt",
    )
}

#[tokio::test]
async fn tls_takes_a_broker_that_the_system_trusts_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    if !certificates(dir.path()) {
        println!("left out: there is no openssl on this machine");
        return;
    }
    let path = dir.path().display();
    let broker = broker!(&format!("certfile {path}/tls.crt\nkeyfile {path}/tls.key"));

    let url = format!("mqtts://127.0.0.1:{}/plant", broker.port);
    let running = Running::at(&url, LIMIT);
    let failure = reason(running.deliver("e1", "site.curtail", "s1").await);
    assert!(failure.contains("certificate"), "{failure}");
    running.stop().await;

    // Another process, since what the system trusts is read from the environment.
    let ran = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "delivery::sinks::mqtt::tests::tls::delivers_over_tls",
        ])
        .env("SSL_CERT_FILE", dir.path().join("ca.crt"))
        .env(PORT, broker.port.to_string())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && out.contains("1 passed"), "{out}");
}

#[tokio::test]
#[ignore = "part of tls_takes_a_broker_that_the_system_trusts_and_no_other"]
async fn delivers_over_tls() {
    let Ok(port) = std::env::var(PORT) else {
        return;
    };
    let running = Running::at(&format!("mqtts://127.0.0.1:{port}/plant"), LIMIT);
    running.delivered("e1", "site.curtail", "s1").await;
    running.stop().await;
}
