//! Threads that can be checked: how others find one while it lives, and what ends that.

use crate::checker::ThreadCell;
use crate::platform;
use std::cell::OnceCell;
use std::sync::{Arc, Mutex, PoisonError};

/// How others find a thread: its id while it lives.
#[derive(Debug, Default)]
pub(crate) struct Handle(Mutex<Option<platform::ThreadId>>);

impl Handle {
    /// Interrupts the thread, whose cell `cell` is, unless it has ended or is the current one; `interrupting` is called before.
    pub(crate) fn interrupt(&self, cell: &ThreadCell, interrupting: impl FnOnce()) {
        // Held meanwhile: the thread takes it before it ends, so it is still there, and its id is nobody else's.
        let id = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = *id
            && id != platform::current_id()
        {
            interrupting();
            platform::interrupt(id, cell);
        }
    }

    fn set(&self, id: Option<platform::ThreadId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }
}

thread_local! {
    static OWNER: OnceCell<Owner> = const { OnceCell::new() };
}

/// The current thread's cell, made on first use.
pub(crate) fn current() -> Arc<ThreadCell> {
    // At the thread's very end the slot may be gone: a cell of its own then, which nobody can reach.
    OWNER
        .try_with(|owner| owner.get_or_init(Owner::new).0.clone())
        .unwrap_or_default()
}

/// A thread's end of its cell.
struct Owner(Arc<ThreadCell>);

impl Owner {
    fn new() -> Owner {
        let cell = Arc::<ThreadCell>::default();
        // Alive until `drop` ends it.
        platform::begin(&cell);
        cell.handle.set(Some(platform::current_id()));
        Owner(cell)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // First the thread's own half, which an interruption may still reach, then those who send.
        platform::end();
        self.0.handle.set(None);
    }
}
