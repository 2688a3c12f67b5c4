//! Connections of clients: how many there may be, and what a slow one may cost.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// What is read from a connection in its turn, in bytes. Each message of a session becomes a task at once: those of a session that sends many are in
/// everybody's way until they are done.
const TURN_BYTES: u64 = 4 << 10;

/// What counts as one address: of IPv6 the network that a customer gets.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Connections there may be.
#[derive(Debug)]
pub(crate) struct Seats {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// A connection that there may be. Given back when it is dropped, with the socket.
#[derive(Debug)]
pub(crate) struct Seat {
    of: Arc<Seats>,
    peer: IpAddr,
}

impl Seats {
    /// `most` in all, `most_of_one` of them for one address.
    pub(crate) fn new(most: usize, most_of_one: usize) -> Arc<Seats> {
        Arc::new(Seats {
            most,
            most_of_one,
            taken: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One for who is at `peer`, see [`network`].
    pub(crate) fn take(self: &Arc<Seats>, peer: IpAddr) -> Option<Seat> {
        let mut taken = self.lock();
        let own = taken.by.get(&peer).copied().unwrap_or(0);
        if taken.all >= self.most || own >= self.most_of_one {
            return None;
        }
        taken.all += 1;
        taken.by.insert(peer, own + 1);
        let of = self.clone();
        Some(Seat { of, peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        taken.all -= 1;
        if let Some(own) = taken.by.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                taken.by.remove(&self.peer);
            }
        }
    }
}

/// A connection that is not read from while it cannot be written to, so that who sends and does not read fills no memory here; and that fails when
/// nothing could be written for as long as [`Socket::patience`]. Who sends a lot is read from in turns, between which all other tasks have theirs.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Its limit is what may still be read in this turn.
    stream: Take<TcpStream>,
    patience: Duration,
    /// Ends the wait of a write.
    blocked: Option<Pin<Box<Sleep>>>,
    /// Who waits for that.
    reader: Option<Waker>,
    _seat: Seat,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, patience: Duration, seat: Seat) -> Socket {
        Socket {
            stream: stream.take(TURN_BYTES),
            patience,
            blocked: None,
            reader: None,
            _seat: seat,
        }
    }

    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if wrote.is_pending() {
            let patience = self.patience;
            let blocked = self
                .blocked
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
            ready!(blocked.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.blocked = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        wrote
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.blocked.is_some() {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        if self.stream.limit() == 0 {
            self.stream.set_limit(TURN_BYTES);
            // The runtime puts a task that wakes itself behind all that are ready.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() {
            self.stream.set_limit(TURN_BYTES);
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(self.stream.get_mut()).poll_write(context, bytes);
        self.wrote(context, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(self.stream.get_mut()).poll_write_vectored(context, parts);
        self.wrote(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use tokio::net::TcpListener;

    #[test]
    fn seats_are_counted_by_network_and_given_back() {
        let seats = Seats::new(3, 2);
        let address = |text: &str| network(text.parse().expect("an address"));
        let first = seats.take(address("2001:db8::1")).expect("a seat");
        let _second = seats.take(address("2001:db8::2:1")).expect("a seat");
        assert!(seats.take(address("2001:db8::3")).is_none(), "one network");
        let third = seats.take(address("10.0.0.1")).expect("another one's");
        assert!(seats.take(address("10.0.0.2")).is_none(), "all are taken");
        drop(first);
        let _fourth = seats.take(address("::ffff:10.0.0.1")).expect("free again");
        assert_eq!(seats.lock().by[&address("10.0.0.1")], 2, "as IPv4");
        drop(third);
        assert_eq!(seats.lock().all, 2);
    }

    #[tokio::test]
    async fn who_sends_much_is_read_from_in_turns() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut client = std::net::TcpStream::connect(address).expect("connected");
        let sent = vec![1; 64 << 10];
        client.write_all(&sent).expect("the kernel has it");
        let (stream, peer) = listener.accept().await.expect("connected");
        let seat = Seats::new(1, 1).take(peer.ip()).expect("a seat");
        let mut socket = Socket::new(stream, Duration::MAX, seat);
        let turns = Arc::new(AtomicU64::new(0));
        let other = tokio::spawn({
            let turns = turns.clone();
            async move {
                loop {
                    turns.fetch_add(1, Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut received = vec![0; sent.len()];
        let read = socket.read_exact(&mut received).await;
        other.abort();
        assert_eq!(read.expect("all of it"), sent.len());
        let turns = turns.load(Relaxed);
        assert!(turns >= sent.len() as u64 / TURN_BYTES - 1, "{turns}");
        assert_eq!(received, sent);
    }
}
