//! What has been answered and not been sent: how many bytes of it there may be.
//!
//! jsonrpsee counts messages, one of which may have megabytes, and knows of a session that does not read only when its channel is full.
//!
//! ```text
//!   call ─▶ ready: its connection has little that is unsent ─▶ answer ─▶ reserve: there is room ─▶ send ─▶ jsonrpsee ─▶ socket ─▶ sent
//! ```

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Of all connections together, in bytes.
const ALL_BYTES: usize = 256 << 20;
/// Of one connection before it has to wait for the next answer, or message of a subscription.
const READY_BYTES: usize = 8 << 20;
/// Of one connection altogether: those that waited together are answered together.
const OWN_BYTES: usize = 32 << 20;
/// What is sent even without room: who gets no other answer has to learn it.
const SMALL_BYTES: usize = 4 << 10;

/// Room for all connections.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ALL_BYTES))
}

/// What a connection has not sent.
#[derive(Debug)]
pub(super) struct Unsent {
    room: Arc<Semaphore>,
    state: Mutex<State>,
    /// Notified when there is little, and when there will be nothing.
    little: Notify,
}

#[derive(Debug, Default)]
struct State {
    bytes: usize,
    reserved: usize,
    /// The room that is taken for `bytes`.
    held: Option<OwnedSemaphorePermit>,
    is_closed: bool,
}

/// Room for something that is to be sent. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    of: Arc<Unsent>,
    bytes: usize,
    held: Option<OwnedSemaphorePermit>,
}

impl Unsent {
    pub(super) fn new(room: Arc<Semaphore>) -> Arc<Unsent> {
        Arc::new(Unsent {
            room,
            state: Mutex::default(),
            little: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether more may be made.
    pub(super) fn is_ready(&self) -> bool {
        let state = self.lock();
        state.is_closed || state.bytes < READY_BYTES
    }

    /// Waits until more may be made.
    pub(super) async fn ready(&self) {
        loop {
            let little = self.little.notified();
            if self.is_ready() {
                return;
            }
            little.await;
        }
    }

    /// Room for `bytes` more, if there is.
    pub(super) fn reserve(self: &Arc<Unsent>, bytes: usize) -> Option<Reserved> {
        let mut state = self.lock();
        let is_small = bytes <= SMALL_BYTES;
        if state.bytes + state.reserved + bytes > OWN_BYTES && !is_small {
            return None;
        }
        let count = u32::try_from(bytes).ok()?;
        let held = self.room.clone().try_acquire_many_owned(count).ok();
        if held.is_none() && !is_small {
            return None;
        }
        state.reserved += bytes;
        let of = self.clone();
        Some(Reserved { of, bytes, held })
    }

    /// `bytes` have gone to the client, or will not.
    pub(super) fn sent(&self, bytes: usize) {
        let mut state = self.lock();
        let was_much = state.bytes >= READY_BYTES;
        state.bytes = state.bytes.saturating_sub(bytes);
        let left = state.bytes;
        if let Some(held) = &mut state.held {
            let free = held.num_permits().saturating_sub(left);
            drop(held.split(free));
        }
        if was_much && left < READY_BYTES {
            drop(state);
            self.little.notify_waiters();
        }
    }

    /// The connection has ended: all that was unsent is gone, or goes with the tasks that have it.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.bytes = 0;
        state.held = None;
        drop(state);
        self.little.notify_waiters();
    }
}

impl Reserved {
    /// Room for both together.
    pub(super) fn and(mut self, mut other: Reserved) -> Reserved {
        self.bytes += mem::take(&mut other.bytes);
        match (&mut self.held, other.held.take()) {
            (Some(held), Some(more)) => held.merge(more),
            (held @ None, more) => *held = more,
            (Some(_), None) => {}
        }
        self
    }

    /// What it was for, `bytes` in the end, goes on its way. To be said before it does.
    pub(super) fn send(mut self, bytes: usize) {
        let of = self.of.clone();
        let mut state = of.lock();
        state.reserved -= mem::take(&mut self.bytes);
        if state.is_closed {
            return;
        }
        state.bytes += bytes;
        match (&mut state.held, self.held.take()) {
            (Some(held), Some(more)) => held.merge(more),
            (held @ None, more) => *held = more,
            (Some(_), None) => {}
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.of.lock().reserved -= self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_taken_until_it_is_sent_or_the_connection_has_ended() {
        let room = room();
        let all = || ALL_BYTES - room.available_permits();
        let (one, other) = (Unsent::new(room.clone()), Unsent::new(room.clone()));
        let reserve = |of: &Arc<Unsent>, bytes| of.reserve(bytes).expect("room");
        reserve(&one, 1_000_000);
        assert_eq!(all(), 0, "what comes to nothing takes nothing");
        reserve(&one, 9_000_000).send(9_000_000);
        reserve(&other, 1_000).and(reserve(&other, 500)).send(1_600);
        assert_eq!(all(), 9_001_500);
        assert!(!one.is_ready() && other.is_ready());
        one.sent(600_000);
        assert!(!one.is_ready());
        {
            let mut ready = Box::pin(one.ready());
            let waits = tokio::select! {
                biased;
                () = &mut ready => false,
                () = std::future::ready(()) => true,
            };
            assert!(waits);
            one.sent(400_000);
            ready.await;
        }
        other.sent(10_000);
        assert_eq!(all(), 8_000_000);
        assert!(one.reserve(OWN_BYTES - 8_000_000 + 1).is_none());
        let late = reserve(&one, 1_000);
        one.close();
        assert_eq!(all(), 1_000);
        late.send(1_000);
        assert_eq!((all(), one.lock().reserved), (0, 0));

        let _all: Vec<_> = (0..ALL_BYTES / OWN_BYTES)
            .map(|_| reserve(&Unsent::new(room.clone()), OWN_BYTES))
            .collect();
        assert!(other.reserve(SMALL_BYTES + 1).is_none());
        reserve(&other, SMALL_BYTES).send(SMALL_BYTES);
        assert_eq!(other.lock().bytes, SMALL_BYTES);
    }
}
