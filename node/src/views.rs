//! Threads for work that blocks: read-only calls of contracts, and checks of submitted transactions.
//!
//! Such work can take seconds (a view runs wasm up to its fuel limit), so it never runs on the threads that serve
//! connections. Each kind has its own few threads and a bounded queue before them; when that is full, callers hear so
//! at once and try again later.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// As much work is waiting as may wait.
    #[error("too much work is waiting")]
    Full,
    /// [`Workers::stop`] was called.
    #[error("stopping")]
    Stopped,
    /// The work panicked. The thread lives on.
    #[error("the work panicked")]
    Panicked,
}

type Job = Box<dyn FnOnce() + Send>;

/// A few threads with a bounded queue.
pub struct Workers {
    name: &'static str,
    /// `None` once stopped.
    jobs: Mutex<Option<SyncSender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Workers {
    /// Starts `threads` threads named `name`-0 and so on, before which `queue` pieces of work may wait.
    ///
    /// # Errors
    ///
    /// The operating system refused a thread.
    pub fn start(name: &'static str, threads: usize, queue: usize) -> io::Result<Workers> {
        let (jobs, receiver) = sync_channel::<Job>(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        let workers = Workers {
            name,
            jobs: Mutex::new(Some(jobs)),
            threads: Mutex::new(Vec::with_capacity(threads)),
        };
        for index in 0..threads {
            let receiver = receiver.clone();
            // On an error the sender is dropped with `workers`, which ends the threads that run already.
            let thread = slackline_executor::thread::spawn(format!("{name}-{index}"), move || {
                work(&receiver);
            })?;
            lock(&workers.threads).push(thread);
        }
        Ok(workers)
    }

    /// Runs `work` on one of the threads and waits for its result. Work whose caller has gone away before it
    /// started is skipped.
    ///
    /// # Errors
    ///
    /// See [`WorkError`].
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let (sender, receiver) = oneshot::channel();
        let name = self.name;
        let job: Job = Box::new(move || {
            if sender.is_closed() {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
                tracing::error!(thread = name, panic = describe(&*panic), "work panicked");
                WorkError::Panicked
            });
            // Fails if the caller has gone away, who then does not want it.
            let _ = sender.send(result);
        });
        match &*lock(&self.jobs) {
            None => return Err(WorkError::Stopped),
            Some(jobs) => jobs.try_send(job).map_err(|error| match error {
                TrySendError::Full(_) => WorkError::Full,
                TrySendError::Disconnected(_) => WorkError::Stopped,
            })?,
        }
        receiver.await.unwrap_or(Err(WorkError::Stopped))
    }

    /// Takes no more work, finishes what waits, and returns when the threads have ended. Blocks; does nothing the
    /// second time.
    pub fn stop(&self) {
        lock(&self.jobs).take();
        for thread in lock(&self.threads).drain(..) {
            // Jobs catch their panics, so a thread ends by returning.
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting: one thread waits for work, the others for the lock.
        let job = lock(jobs).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

/// Locks whatever a panic left: the data behind these locks is consistent between any two statements.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The message of a panic.
pub(crate) fn describe(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[tokio::test]
    async fn full_queues_refuse_and_panics_are_survived() {
        let workers = Arc::new(Workers::start("test", 1, 1).expect("threads"));
        let gate = Arc::new(Barrier::new(2));
        let (started, running) = oneshot::channel();
        let first = tokio::spawn({
            let (workers, gate) = (workers.clone(), gate.clone());
            async move {
                workers
                    .run(move || {
                        let _ = started.send(());
                        gate.wait();
                        1
                    })
                    .await
            }
        });
        running.await.expect("started");
        // Polled once, so that it is in the queue.
        let mut second = Box::pin(workers.run(|| panic!("on purpose")));
        assert!(futures_poll_once(&mut second).await.is_none());
        assert_eq!(workers.run(|| 3).await, Err(WorkError::Full));
        gate.wait();
        assert_eq!(first.await.expect("joined"), Ok(1));
        let panicked: Result<(), WorkError> = second.await;
        assert_eq!(panicked, Err(WorkError::Panicked));
        assert_eq!(workers.run(|| 4).await, Ok(4));
        workers.stop();
        workers.stop();
        assert_eq!(workers.run(|| 5).await, Err(WorkError::Stopped));
    }

    async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
