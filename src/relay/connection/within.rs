//! What a connection does, within the span that debug lines ask for.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tracing::Span;

pin_project! {
    /// As `tracing::Instrumented`, which has room for a span in the task of each idle connection: here it takes a pointer, and that is null
    /// where nobody asks for debug lines.
    pub(super) struct Within<F> {
        span: Option<Box<Span>>,
        #[pin]
        inner: F,
    }
}

impl<F> Within<F> {
    pub(super) fn new(span: Span, inner: F) -> Self {
        let span = (!span.is_disabled()).then(|| Box::new(span));
        Self { span, inner }
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.span.as_deref().map(Span::enter);
        this.inner.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Option<&'static str> {
        Span::current().metadata().map(tracing::Metadata::name)
    }

    #[test]
    fn each_turn_is_within_the_span_and_nothing_behind_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seen = tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            let turns = async {
                let first = name();
                tokio::task::yield_now().await;
                [first, name()]
            };
            let seen = runtime.block_on(Within::new(tracing::debug_span!("a connection"), turns));
            (seen, name())
        });
        assert_eq!(seen, ([Some("a connection"); 2], None));
    }

    #[test]
    fn a_span_that_nobody_asks_for_takes_no_memory() {
        assert!(Within::new(Span::none(), ()).span.is_none());
    }
}
