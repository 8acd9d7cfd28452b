use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};

use super::*;
use crate::delivery::sinks::testing::{event, large, reason};

#[tokio::test]
async fn each_event_is_one_line() {
    let (reader, writer) = io::pipe().unwrap();
    let sink = StdoutSink::over(writer, LIMIT).unwrap();
    let events = [
        event("e1", "site.curtail", "two\nlines"),
        event("e2", "site.release", "s"),
    ];
    assert_eq!(sink.deliver(&events, None).await, Attempt::Delivered);
    drop(sink);
    let lines: Vec<serde_json::Value> = BufReader::new(reader)
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["subject"], "two\nlines");
    assert_eq!(lines[1]["id"], "e2");
}

#[tokio::test]
async fn a_closed_pipe_fails_the_attempt() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let sink = StdoutSink::over(writer, LIMIT).unwrap();
    for _ in 0..2 {
        let attempt = sink
            .deliver(&[event("e1", "site.curtail", "s")], None)
            .await;
        assert!(reason(attempt).contains("closed"));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_reader_that_stops_reading_holds_up_only_its_own_attempts() {
    let (mut reader, writer) = io::pipe().unwrap();
    let sink = StdoutSink::over(writer, Duration::from_millis(200)).unwrap();
    // More than a pipe holds. The runtime has one thread, and the time limit
    // fires on it, so it is not blocked.
    let stuck = sink.deliver(&[large(1 << 20)], None).await;
    assert!(reason(stuck).contains("took nothing"));
    let behind = sink
        .deliver(&[event("given-up", "site.curtail", "s")], None)
        .await;
    assert!(reason(behind).contains("took nothing"));

    // The reader comes back and finds what was begun, then what is tried anew.
    let rest = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    let mut attempt = failed("not tried yet");
    for _ in 0..100 {
        attempt = sink
            .deliver(&[event("again", "site.release", "s")], None)
            .await;
        if attempt == Attempt::Delivered {
            break;
        }
    }
    assert_eq!(attempt, Attempt::Delivered);
    drop(sink);
    let text = rest.join().unwrap();
    assert!(
        !text.contains("given-up"),
        "an attempt was written after it had failed"
    );
    assert!(text.ends_with("}\n"));
    assert!(text.lines().last().unwrap().contains("again"));
}

/// Takes a few bytes, then fails once, as a full disk does.
struct Full {
    room: usize,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            self.room = usize::MAX;
            return Err(ErrorKind::StorageFull.into());
        }
        let n = bytes.len().min(self.room);
        self.room -= n;
        self.taken.lock().unwrap().extend(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_line_that_broke_off_does_not_spoil_the_next() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let out = Full {
        room: 10,
        taken: Arc::clone(&taken),
    };
    let sink = StdoutSink::over(out, LIMIT).unwrap();
    let events = [event("e1", "site.curtail", "s")];
    assert!(matches!(
        sink.deliver(&events, None).await,
        Attempt::Failed { .. }
    ));
    assert_eq!(sink.deliver(&events, None).await, Attempt::Delivered);
    let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let whole: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(whole["id"], "e1");
}
