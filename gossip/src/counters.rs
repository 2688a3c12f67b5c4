//! What has happened, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What has happened since the start. Each is read by itself: they need not fit together.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct Atomics {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Atomics {
            pub(crate) fn snapshot(&self) -> Counters {
                Counters { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Messages received that were not known already.
    received,
    /// Their sizes, in bytes.
    received_bytes,
    /// Messages that the sink accepted, and that were forwarded.
    accepted,
    /// Messages that the sink ignored.
    ignored,
    /// Messages that the sink called junk.
    junk,
    /// Messages over the size limit by so little that they could be read; longer ones close the stream they come on.
    too_large,
    /// Messages dropped since their peer had sent too many.
    rate_limited,
    /// Messages dropped since the sink was too slow: too many waited for it, or too many bytes, of all or of that peer.
    queue_full,
    /// Messages that the sink judged so late that they could not be forwarded any more.
    late,
    /// Messages published to at least one peer.
    published,
    /// Messages held back since there was no peer.
    held,
    /// Messages of our own that were dropped: too many were held back, or all peers were too slow.
    publish_dropped,
    /// Messages refused since too many, or too many bytes, waited to be published.
    publish_busy,
    /// Strikes given to peers.
    strikes,
    /// Bans.
    bans,
    /// Connections opened, by either side.
    connections,
    /// Peers disconnected since they are not on the list.
    not_allowed,
    /// Connections closed since there were too many from their address.
    crowded,
    /// Times that the sink panicked.
    sink_panics,
}

impl Atomics {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Relaxed);
    }
}
