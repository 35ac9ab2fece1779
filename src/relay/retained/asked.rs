//! What is read from the log for one connection, which is woken when it has come.

use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    task::AbortHandle,
};

/// A question to the log; dropping it ends that.
#[derive(Debug)]
pub struct Asked<T> {
    answer: oneshot::Receiver<T>,
    task: AbortHandle,
}

impl<T> Drop for Asked<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T: Send + 'static> Asked<T> {
    /// Asks; `wake` is called when the answer is there.
    pub fn ask(question: impl Future<Output = T> + Send + 'static, wake: impl FnOnce() + Send + 'static) -> Self {
        let (tell, answer) = oneshot::channel();
        let task = tokio::spawn(async move {
            // Nobody hears it if the connection is gone.
            let _ = tell.send(question.await);
            wake();
        });
        Self {
            answer,
            task: task.abort_handle(),
        }
    }

    /// The answer. An error: it is not there yet, or its task has ended without.
    pub fn answer(&mut self) -> Result<T, TryRecvError> {
        self.answer.try_recv()
    }
}
