//! Compiles code before it is needed: on a thread of its own, off the path of execution.
//!
//! A deployment is compiled when it is admitted, so that the block that executes it finds the result ([`Vm::load`]), or waits for what is
//! left of the work. What does not fit into the queue is compiled when it is executed: nothing but time depends on this.

use crate::types::Hash;
use crate::vm::Vm;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};

/// Modules that may wait. Each has at most [`slackline_sandbox::CodeLimits::code_bytes`].
const QUEUE: usize = 16;

/// The thread's door. The thread ends when this is dropped, once it has finished the module at hand.
pub(crate) struct Compiler(SyncSender<(Hash, Vec<u8>)>);

impl Compiler {
    pub(crate) fn start(vm: &Arc<Vm>) -> io::Result<Compiler> {
        let (sender, receiver) = sync_channel::<(Hash, Vec<u8>)>(QUEUE);
        let vm: Weak<Vm> = Arc::downgrade(vm);
        std::thread::Builder::new()
            .name("slackline-compiler".to_owned())
            .spawn(move || {
                for (hash, code) in receiver {
                    let Some(vm) = vm.upgrade() else {
                        return;
                    };
                    // What is refused is remembered, what the machine failed in is tried again when it is executed.
                    if let Err(error) = vm.load(hash, &code, true) {
                        tracing::warn!(%error, %hash, "not compiled ahead");
                    }
                }
            })?;
        Ok(Compiler(sender))
    }

    /// Has `code`, whose hash is `hash`, compiled soon, if there is room.
    pub(crate) fn soon(&self, hash: Hash, code: &[u8]) {
        // Full, or the thread is gone: then it is compiled later.
        let _ = self.0.try_send((hash, code.to_vec()));
    }
}
