//! Threads for work that blocks: read-only calls of contracts, and checks of submitted transactions.
//!
//! Such work can take seconds (a view runs wasm up to its fuel limit), so it never runs on the threads that serve
//! connections. Each kind has its own few threads and a bounded queue before them; when that is full, callers hear so
//! at once and try again later.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long [`Workers::stop`] waits for work under way.
const PATIENCE: Duration = Duration::from_secs(20);

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

/// Something to do.
pub trait Work: Send + 'static {
    /// What it takes of the room in the queue, and of what one thread takes at once. More than nothing.
    fn size(&self) -> usize {
        1
    }
}

/// A few threads with a bounded queue, from which each takes as much at once as it can do together.
pub struct Workers<W> {
    name: &'static str,
    queue: Arc<Queue<W>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Queue<W> {
    waiting: Mutex<Waiting<W>>,
    /// Notified for each piece of work, and when there will be none.
    wake: Condvar,
    /// Notified when a thread has ended.
    ended: Condvar,
    /// As that of [`Waiting`], for who must not wait for the lock.
    stopped: AtomicBool,
    room: usize,
    /// The most that is taken at once, unless a single piece is larger.
    together: usize,
}

struct Waiting<W> {
    work: VecDeque<W>,
    size: usize,
    stopped: bool,
    /// Threads.
    running: usize,
}

/// How much may wait, and how much of it a thread takes at once: see [`Work::size`].
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// In the queue. What is larger is refused also by an empty one.
    pub queue: usize,
    /// At once.
    pub together: usize,
}

impl<W> fmt::Debug for Workers<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<W: Work> Workers<W> {
    /// Starts `threads` threads named `name`-0 and so on, which do what is given to them with `perform`. One that panics goes on with the
    /// next.
    ///
    /// # Errors
    ///
    /// The operating system refused a thread.
    pub fn start(
        name: &'static str,
        threads: usize,
        room: Room,
        perform: impl Fn(Vec<W>) + Send + Sync + 'static,
    ) -> io::Result<Workers<W>> {
        let workers = Workers {
            name,
            queue: Arc::new(Queue {
                waiting: Mutex::new(Waiting {
                    work: VecDeque::new(),
                    size: 0,
                    stopped: false,
                    running: 0,
                }),
                wake: Condvar::new(),
                ended: Condvar::new(),
                stopped: AtomicBool::new(false),
                room: room.queue,
                together: room.together,
            }),
            threads: Mutex::new(Vec::with_capacity(threads)),
        };
        let perform = Arc::new(perform);
        for index in 0..threads {
            let (queue, perform) = (workers.queue.clone(), perform.clone());
            // Counted from here on, so that nobody takes it for one that has ended.
            let running = Running::new(queue.clone());
            // On an error `workers` is dropped, which ends the threads that run already.
            let thread = slackline_executor::thread::spawn(format!("{name}-{index}"), move || {
                let _running = running;
                while let Some(work) = queue.take() {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| perform(work))) {
                        tracing::error!(thread = name, panic = describe(&*panic), "work panicked");
                    }
                }
            })?;
            lock(&workers.threads).push(thread);
        }
        Ok(workers)
    }

    /// Gives `work` to the threads, and waits for what they send to the other end of `answer`.
    ///
    /// # Errors
    ///
    /// See [`WorkError`].
    pub async fn run<T>(&self, work: W, answer: oneshot::Receiver<T>) -> Result<T, WorkError> {
        {
            let mut waiting = lock(&self.queue.waiting);
            if waiting.stopped {
                return Err(WorkError::Stopped);
            }
            let size = waiting.size + work.size();
            if size > self.queue.room {
                return Err(WorkError::Full);
            }
            waiting.size = size;
            waiting.work.push_back(work);
        }
        self.queue.wake.notify_one();
        // All that was taken is done: without an answer it panicked.
        answer.await.map_err(|_| WorkError::Panicked)
    }

    /// Takes no more work, finishes what waits, and returns when the threads have ended, or work has been under way for 20 s more: then they are left
    /// alone. Blocks; does nothing the second time.
    pub fn stop(&self) {
        self.queue.stop();
        let threads: Vec<_> = lock(&self.threads).drain(..).collect();
        let waiting = lock(&self.queue.waiting);
        let (waiting, _) = self
            .queue
            .ended
            .wait_timeout_while(waiting, PATIENCE, |waiting| waiting.running > 0)
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.running > 0 {
            let (name, threads) = (self.name, waiting.running);
            tracing::warn!(name, threads, "work does not end in time");
            return;
        }
        drop(waiting);
        for thread in threads {
            // Panics are caught, so a thread ends by returning.
            let _ = thread.join();
        }
    }
}

/// A thread that has not ended.
struct Running<W>(Arc<Queue<W>>);

impl<W> Running<W> {
    fn new(queue: Arc<Queue<W>>) -> Running<W> {
        lock(&queue.waiting).running += 1;
        Running(queue)
    }
}

impl<W> Drop for Running<W> {
    fn drop(&mut self) {
        lock(&self.0.waiting).running -= 1;
        self.0.ended.notify_all();
    }
}

impl<W> Drop for Workers<W> {
    /// Lets the threads end, without waiting for them.
    fn drop(&mut self) {
        self.queue.stop();
    }
}

impl<W> Queue<W> {
    fn stop(&self) {
        self.stopped.store(true, Relaxed);
        lock(&self.waiting).stopped = true;
        self.wake.notify_all();
    }
}

impl<W: Work> Queue<W> {
    /// What is to be done next, in the order in which it came; `None` if there is nothing and will be nothing.
    fn take(&self) -> Option<Vec<W>> {
        let mut waiting = lock(&self.waiting);
        loop {
            let (mut taken, mut size) = (Vec::new(), 0);
            while let Some(next) = waiting.work.front() {
                if !taken.is_empty() && size + next.size() > self.together {
                    break;
                }
                let Some(next) = waiting.work.pop_front() else {
                    break;
                };
                waiting.size -= next.size();
                size += next.size();
                taken.push(next);
            }
            if !taken.is_empty() {
                return Some(taken);
            }
            if waiting.stopped {
                return None;
            }
            waiting = self
                .wake
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Anything to do, alone.
pub type Job = Box<dyn FnOnce() + Send>;

impl Work for Job {}

impl Workers<Job> {
    /// Starts `threads` threads, as [`Workers::start`], before which `queue` jobs may wait.
    ///
    /// # Errors
    ///
    /// The operating system refused a thread.
    pub fn for_jobs(name: &'static str, threads: usize, queue: usize) -> io::Result<Workers<Job>> {
        let room = Room { queue, together: 1 };
        Workers::start(name, threads, room, |jobs: Vec<Job>| {
            for job in jobs {
                job();
            }
        })
    }

    /// Runs `job` on one of the threads and waits for its result. One whose caller has gone away before it started is skipped.
    ///
    /// # Errors
    ///
    /// See [`WorkError`].
    pub async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        self.call_while_wanted(move |_| job()).await
    }

    /// [`Workers::call`] for a job that takes long and can be given up: it is told how to find out that its caller has gone away, or the threads
    /// are to end.
    ///
    /// # Errors
    ///
    /// See [`WorkError`].
    pub async fn call_while_wanted<T: Send + 'static>(
        &self,
        job: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let (sender, receiver) = oneshot::channel();
        let queue = self.queue.clone();
        let job = move || {
            if !sender.is_closed() {
                let done = job(&|| !sender.is_closed() && !queue.stopped.load(Relaxed));
                // Fails if the caller has gone away, who then does not want it.
                let _ = sender.send(done);
            }
        };
        self.run(Box::new(job), receiver).await
    }
}

/// Locks whatever a panic left: the data behind these locks is consistent between any two statements.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
    use std::sync::{Barrier, mpsc};

    #[tokio::test]
    async fn full_queues_refuse_and_panics_are_survived() {
        let workers = Arc::new(Workers::for_jobs("test", 1, 1).expect("threads"));
        let gate = Arc::new(Barrier::new(2));
        let (started, running) = oneshot::channel();
        let first = tokio::spawn({
            let (workers, gate) = (workers.clone(), gate.clone());
            async move {
                workers
                    .call(move || {
                        let _ = started.send(());
                        gate.wait();
                        1
                    })
                    .await
            }
        });
        running.await.expect("started");
        // Polled once, so that it is in the queue.
        let mut second = Box::pin(workers.call(|| panic!("on purpose")));
        assert!(futures_poll_once(&mut second).await.is_none());
        assert_eq!(workers.call(|| 3).await, Err(WorkError::Full));
        gate.wait();
        assert_eq!(first.await.expect("joined"), Ok(1));
        let panicked: Result<(), WorkError> = second.await;
        assert_eq!(panicked, Err(WorkError::Panicked));
        assert_eq!(workers.call(|| 4).await, Ok(4));
        workers.stop();
        workers.stop();
        assert_eq!(workers.call(|| 5).await, Err(WorkError::Stopped));
    }

    #[tokio::test]
    async fn a_job_hears_that_nobody_wants_it_any_more() {
        let workers = Arc::new(Workers::for_jobs("test", 1, 1).expect("threads"));
        let run = |stop: bool| {
            let (workers, until) = (workers.clone(), workers.clone());
            let (started, running) = oneshot::channel();
            let (sender, ended) = mpsc::channel();
            let calling = tokio::spawn(async move {
                let job = move |is_wanted: &(dyn Fn() -> bool + Sync)| {
                    assert!(is_wanted());
                    let _ = started.send(());
                    while is_wanted() {
                        std::thread::yield_now();
                    }
                    let _ = sender.send(());
                };
                workers.call_while_wanted(job).await
            });
            async move {
                running.await.expect("started");
                match stop {
                    true => until.stop(),
                    false => calling.abort(),
                }
                tokio::task::spawn_blocking(move || ended.recv())
                    .await
                    .expect("joined")
                    .expect("the job has ended");
            }
        };
        run(false).await;
        run(true).await;
    }

    struct Sized(usize, mpsc::Sender<Vec<usize>>);

    impl Work for Sized {
        fn size(&self) -> usize {
            self.0
        }
    }

    #[tokio::test]
    async fn what_waits_is_taken_together_in_order_as_far_as_it_fits() {
        let room = Room {
            queue: 20,
            together: 8,
        };
        let gate = Arc::new(Barrier::new(2));
        let perform = {
            let gate = gate.clone();
            move |work: Vec<Sized>| {
                let sizes = work.iter().map(|each| each.0).collect();
                work[0].1.send(sizes).expect("the test listens");
                gate.wait();
            }
        };
        let workers = Workers::start("test", 1, room, perform).expect("threads");
        let (sender, taken) = mpsc::channel();
        // Nobody is going to answer, which looks like a panic.
        let give = |size: usize| {
            let (_, never) = oneshot::channel::<()>();
            workers.run(Sized(size, sender.clone()), never)
        };
        let queued = Err(WorkError::Panicked);
        assert_eq!(give(1).await, queued);
        assert_eq!(taken.recv().expect("taken"), [1]);
        for size in [3, 5, 1, 9] {
            assert_eq!(give(size).await, queued, "{size}");
        }
        assert_eq!(give(3).await, Err(WorkError::Full));
        for sizes in [vec![3, 5], vec![1], vec![9]] {
            gate.wait();
            assert_eq!(taken.recv().expect("taken"), sizes);
        }
        gate.wait();
        workers.stop();
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
