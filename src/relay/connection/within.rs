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
