//! A panic reverts with its message.
//!
//! Formatting is a tenth of the size of the token, which messages like "index out of bounds: the len is 3 but the index is 5"
//! are worth. Nothing in here can panic in turn: without that recursion the optimiser sees that nobody asks where a
//! panic came from, and leaves the names of the source files out of the contract.

use crate::revert;
use core::fmt::{self, Write};
use core::panic::{PanicInfo, PanicMessage};

/// Room for a message; what is not written yet is the end of it.
struct Rest<'a>(&'a mut [u8]);

impl Write for Rest<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let len = part.len().min(self.0.len());
        let (here, rest) = core::mem::take(&mut self.0)
            .split_at_mut_checked(len)
            .ok_or(fmt::Error)?;
        here.iter_mut()
            .zip(part.bytes())
            .for_each(|(to, from)| *to = from);
        self.0 = rest;
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    revert_with(info.message())
}

/// Not inlined, so that the handler itself stays small enough to be.
#[cold]
#[inline(never)]
fn revert_with(panic: PanicMessage) -> ! {
    if let Some(text) = panic.as_str() {
        revert(text);
    }
    // On the stack, because a failed allocation panics too. What does not fit is cut off.
    let mut text = [0; 256];
    let mut rest = Rest(&mut text);
    let _ = write!(rest, "{panic}");
    let free = rest.0.len();
    revert(
        text.len()
            .checked_sub(free)
            .and_then(|len| text.get(..len))
            .unwrap_or_default(),
    )
}
