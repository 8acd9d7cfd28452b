//! How the requests that follow redirects come out of the one budget (rule R9).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

type TokenFuture = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Asks the one limiter on requests for one request more, before a redirect is
/// followed. Copies ask the same limiter.
#[derive(Clone)]
pub struct RedirectLimiter(Arc<dyn Fn() -> TokenFuture + Send + Sync>);

impl RedirectLimiter {
    /// One that asks with `token`, whose answer comes once the budget allows a
    /// request. `false` means that nothing is sent any more.
    pub fn new<F>(token: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(token())))
    }

    /// Waits until one request more may be sent. `false` if none may any more.
    pub(super) async fn token(&self) -> bool {
        self.0().await
    }
}

impl fmt::Debug for RedirectLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedirectLimiter").finish_non_exhaustive()
    }
}
