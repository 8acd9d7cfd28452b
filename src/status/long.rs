//! Answers that are long: few at once, and written away from the threads that
//! serve others (rule R13). [`LongAnswers`] is where to start.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use warp::Reply;
use warp::reply::Response;

use crate::http::{refusal, set_retry_after};
use crate::seldom::Rarely;
use crate::system::go_behind_others;

/// From this many items on, an answer is long.
const MANY: usize = 500;

/// How far threads that write long answers stand back, as for `nice`.
const NICE: i32 = 10;

/// How long a request waits for its turn before it is told to come again.
const TURN: Duration = Duration::from_secs(5);

/// Lets a bounded number of long answers be written and sent at once. The text
/// of each is held until its client has read it.
#[derive(Debug, Clone)]
pub struct LongAnswers {
    turns: Arc<Semaphore>,
    /// How long a request waits for its turn.
    patience: Duration,
}

impl LongAnswers {
    /// Lets so many be under way at once.
    pub fn new(at_once: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(at_once)),
            patience: TURN,
        }
    }

    /// The answer of so many items that `write` makes. A long one waits for its
    /// turn, and is 503 if that does not come in time.
    pub(super) async fn written(
        &self,
        items: usize,
        write: impl FnOnce() -> Response + Send + 'static,
    ) -> Response {
        if items < MANY {
            return write();
        }
        let turn = Arc::clone(&self.turns).acquire_owned();
        let Ok(Ok(turn)) = timeout(self.patience, turn).await else {
            let mut reply = refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many long answers are being read",
            );
            set_retry_after(&mut reply, TURN);
            return reply;
        };
        match written_apart(write).await {
            Some(reply) => until_read(reply, turn),
            None => refusal(StatusCode::INTERNAL_SERVER_ERROR, "see the log"),
        }
    }
}

/// Has `write` run where it holds nobody up: webhooks and commits go first.
async fn written_apart(write: impl FnOnce() -> Response + Send + 'static) -> Option<Response> {
    let (done, answer) = oneshot::channel();
    let writer = std::thread::Builder::new().name("status-writer".into());
    let started = writer.spawn(move || {
        go_behind_others(NICE);
        // Perhaps the client has hung up.
        let _ = done.send(write());
    });
    if let Err(error) = started {
        static LINE: Rarely = Rarely::new();
        if let Some(count) = LINE.count() {
            tracing::error!(%error, count, "the system gave no thread to write a long answer with");
        }
        return None;
    }
    answer.await.ok()
}

/// Keeps `turn` until the client has read the answer, or gone.
fn until_read(reply: Response, turn: OwnedSemaphorePermit) -> Response {
    let (head, body) = reply.into_parts();
    let parts = body.into_data_stream().map(move |part| {
        let _kept = &turn;
        part
    });
    let body = warp::reply::stream(parts).into_response().into_body();
    Response::from_parts(head, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::long_json_reply;

    fn answer() -> Response {
        long_json_reply(&vec!["x".repeat(1000); 1000])
    }

    #[tokio::test]
    async fn so_many_are_under_way_and_others_are_told_to_come_again() {
        let long = LongAnswers {
            patience: Duration::from_millis(20),
            ..LongAnswers::new(2)
        };
        let held = [
            long.written(MANY, answer).await,
            long.written(MANY, answer).await,
        ];
        assert!(held.iter().all(|reply| reply.status() == 200));
        let refused = long.written(MANY, answer).await;
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers()["retry-after"], "5");
        // Short ones are for everybody.
        assert_eq!(long.written(MANY - 1, answer).await.status(), 200);
        let [read, hung_up] = held;
        let whole = read.into_body().collect().await.unwrap().to_bytes();
        assert!(whole.len() > 1_000_000);
        let next = long.written(MANY, answer).await;
        assert_eq!(next.status(), 200);
        drop(hung_up);
        assert_eq!(long.written(MANY, answer).await.status(), 200);
    }

    #[tokio::test]
    async fn one_that_waits_gets_its_turn_when_another_was_read() {
        let long = LongAnswers::new(1);
        let first = long.written(MANY, answer).await;
        let (second, ()) = tokio::join!(long.written(MANY, answer), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        assert_eq!(second.status(), 200);
        assert!(second.headers().contains_key("content-length"));
    }
}
