//! What the driver does when the trust runs out, and when it steps down.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::delivery::sinks::{HttpClients, SinkContext, SinkSecrets, SinkSpec, wall_clock};

/// Longer than a test takes.
const LONG: Mono = Duration::from_secs(3600);

/// A receiver that never answers.
#[derive(Default)]
struct HangingSink {
    begun: AtomicUsize,
    dropped: AtomicUsize,
}

struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl HangingSink {
    /// How many attempts began and how many of them were dropped.
    fn counts(&self) -> (usize, usize) {
        let of = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (of(&self.begun), of(&self.dropped))
    }
}

impl Sink for HangingSink {
    fn name(&self) -> &str {
        "hanging"
    }

    fn deliver<'a>(
        &'a self,
        _: &'a [Event],
        _: Option<&'a DeliveryTrace>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let under_way = UnderWay(&self.dropped);
        Box::pin(async move {
            let _under_way = under_way;
            std::future::pending().await
        })
    }
}

async fn ends(running: Running) {
    let ended = timeout(PATIENCE, running.ended).await;
    ended.expect("an end").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_broken_off_when_the_trust_as_renewed_meanwhile_runs_out() {
    let clock = SystemClock::new();
    let second = Duration::from_secs(1);
    let (renew, trusted_until) = watch::channel(clock.now().mono + second);
    let sink = Arc::new(HangingSink::default());
    let sinks: Vec<Arc<dyn Sink>> = vec![Arc::<HangingSink>::clone(&sink)];
    let trust = Trust::renewed(trusted_until, clock);
    let running = Running::with(quick_api(1), sinks, 1, trust);
    until("an attempt begins", || sink.counts() == (1, 0)).await;
    renew.send_replace(LONG);
    sleep(second * 2).await;
    assert_eq!(sink.counts(), (1, 0), "it goes on with the trust");
    renew.send_replace(Mono::ZERO);
    until("the attempt is broken off", || sink.counts() == (1, 1)).await;
    let inbox = running.inbox.clone();
    let mut webhook = TaskTracker::new().spawn(async move { inbox.webhook(id(0), None).await });
    let answered = timeout(second, &mut webhook).await;
    assert!(answered.is_err(), "nothing is promised without trust");
    assert_eq!(sink.counts(), (1, 1), "nothing begins without trust");
    renew.send_replace(LONG);
    until("the attempt is made again", || sink.counts() == (2, 1)).await;
    let answered = timeout(PATIENCE, webhook).await.expect("an answer");
    assert_eq!(answered.unwrap(), WaiterReply::Applied);
    running.step_down.cancel();
    ends(running).await;
}

/// A program that says that it runs, and then takes long with another one.
fn slow_program(folder: &Path) -> String {
    let (draft, program) = (folder.join("draft"), folder.join("hook"));
    let text = format!(
        "#!/bin/sh\ncd '{}'\nsleep 1000 &\necho $! > child\nmv child ready\nwait\necho > late\n",
        folder.display()
    );
    std::fs::write(&draft, text).unwrap();
    std::fs::set_permissions(&draft, Permissions::from_mode(0o755)).unwrap();
    // By another process: what this one writes cannot be run while a child of another
    // test has it open.
    let copied = Command::new("cp")
        .arg("-p")
        .args([&draft, &program])
        .status();
    assert!(copied.unwrap().success());
    format!("exec:{}", program.display())
}

fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_steps_down_sends_nothing_more_and_leaves_no_task_behind() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let texts = [
        format!("http://{}/in", receiver.local_addr().unwrap()),
        format!("mqtt://{}/plant", broker.local_addr().unwrap()),
        slow_program(folder.path()),
    ];
    let runtime = Handle::current().metrics();
    // Twice: it is built anew in the same process.
    for _ in 0..2 {
        let tasks = runtime.num_alive_tasks();
        let context = SinkContext {
            clock: wall_clock(Arc::new(SystemClock::new())),
            trust: Trust::endless(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            http: HttpClients::default(),
        };
        let specs =
            SinkSpec::parse_all(texts.iter().map(String::as_str), &SinkSecrets::none()).unwrap();
        let sinks = specs.iter().map(|spec| spec.build(&context).unwrap());
        let running = Running::with(quick_api(1), sinks.collect(), 1, Trust::endless());

        // All three are in the middle of an attempt.
        let (mut mqtt, _) = broker.accept().await.unwrap();
        mqtt.write_all(&[0x20, 3, 0, 0, 0]).await.unwrap();
        let mut http = loop {
            // Some are probes, which send nothing.
            let (mut stream, _) = receiver.accept().await.unwrap();
            if stream.read_u8().await.is_ok() {
                break stream;
            }
        };
        let (child, ready) = (folder.path().join("child"), folder.path().join("ready"));
        until("the program runs", || ready.exists()).await;
        let program = std::fs::read_to_string(&ready).unwrap();
        assert!(runs(&program));

        let begun = SystemClock::new();
        running.step_down.cancel();
        ends(running).await;
        context.stop.cancel();
        context.tasks.close();
        let ended = timeout(PATIENCE, context.tasks.wait()).await;
        ended.expect("the sinks' tasks end");
        let took = begun.now().mono;
        assert!(took < Duration::from_secs(5), "{took:?}");

        until("the program is gone", || !runs(&program)).await;
        for connection in [&mut http, &mut mqtt] {
            let mut rest = Vec::new();
            let gone = timeout(PATIENCE, connection.read_to_end(&mut rest)).await;
            assert!(gone.is_ok(), "a connection is still there");
        }
        until("no task is left", || runtime.num_alive_tasks() <= tasks).await;
        let quiet = Duration::from_millis(700);
        for listener in [&receiver, &broker] {
            let again = timeout(quiet, listener.accept()).await;
            assert!(again.is_err(), "somebody connected again");
        }
        assert!(!folder.path().join("late").exists() && !child.exists());
        std::fs::remove_file(&ready).unwrap();
    }
}
