//! Submitted transactions on their way into the mempool. What waits is admitted together, whoever submitted it: the busier the node is, the more
//! signatures are verified at once, and the less each of them costs.

use crate::producer::{Decoded, Producer, Progress, SubmitError};
use crate::workers::{Room, Work, WorkError, Workers};
use slackline_client::types::parse_hex;
use slackline_executor::{AdmitError, Chain, Hash};
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Transactions that may wait for being admitted, and how many are admitted together: beyond that, verifying gets no cheaper.
const ROOM: Room = Room {
    queue: 2_048,
    together: 128,
};

/// What counts as another transaction, in hexadecimal digits: code takes long to check, and who comes with it waits for that.
const DIGITS: usize = 32 << 10;

/// What was submitted is no transaction.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// Nor hexadecimal.
    #[error("{0}")]
    Text(String),
    /// Its bytes are not those of one.
    #[error(transparent)]
    Bytes(#[from] AdmitError),
}

/// What became of each transaction of a request, with its hash; or, if there is one that is none, which one that is. Then nothing was submitted.
pub(crate) type Admitted = Result<Vec<(Hash, Result<Progress, SubmitError>)>, (usize, Unreadable)>;

struct Request {
    transactions: Arc<[String]>,
    answer: oneshot::Sender<Admitted>,
}

impl Work for Request {
    fn size(&self) -> usize {
        let digits: usize = self.transactions.iter().map(String::len).sum();
        self.transactions.len() + digits / DIGITS
    }
}

/// The threads that admit transactions.
#[derive(Debug)]
pub(crate) struct Admission {
    workers: Workers<Request>,
    producer: Arc<Producer<Chain>>,
}

impl Admission {
    pub(crate) fn start(producer: Arc<Producer<Chain>>, threads: usize) -> io::Result<Admission> {
        // Threads that have nothing to do must not keep the database open: a process that ends while one of them closes it crashes.
        let admitting = Arc::downgrade(&producer);
        let workers = Workers::start("slackline-admit", threads, ROOM, move |requests| {
            if let Some(producer) = admitting.upgrade() {
                admit(&producer, requests);
            }
        })?;
        Ok(Admission { workers, producer })
    }

    /// Submits transactions in hexadecimal, in that order, all or none of them.
    ///
    /// # Errors
    ///
    /// See [`WorkError`].
    pub(crate) async fn submit(&self, transactions: Arc<[String]>) -> Result<Admitted, WorkError> {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            transactions,
            answer,
        };
        self.workers.run(request, answered).await
    }

    /// Reads transactions in hexadecimal, and does nothing with them.
    ///
    /// # Errors
    ///
    /// What the first one is that is none, and why.
    pub(crate) fn read(
        &self,
        transactions: &[String],
    ) -> Result<Vec<Decoded>, (usize, Unreadable)> {
        read(&self.producer, transactions)
    }

    /// See [`Workers::stop`].
    pub(crate) fn stop(&self) {
        self.workers.stop();
    }
}

fn read(
    producer: &Producer<Chain>,
    transactions: &[String],
) -> Result<Vec<Decoded>, (usize, Unreadable)> {
    let read = |text: &String| {
        let bytes = parse_hex(text).map_err(Unreadable::Text)?;
        Ok(producer.decode(bytes)?)
    };
    let each = transactions.iter().enumerate();
    each.map(|(at, text)| read(text).map_err(|error| (at, error)))
        .collect()
}

fn admit(producer: &Producer<Chain>, requests: Vec<Request>) {
    let mut all = Vec::new();
    let mut answers = Vec::new();
    // Who has gone away does not want it any more.
    for request in requests.into_iter().filter(|each| !each.answer.is_closed()) {
        let Request {
            transactions,
            answer,
        } = request;
        match read(producer, &transactions) {
            Ok(decoded) => {
                answers.push((answer, decoded.len()));
                all.extend(decoded);
            }
            // Fails if the caller has gone away meanwhile; so below.
            Err(unreadable) => drop(answer.send(Err(unreadable))),
        }
    }
    let hashes = all.iter().map(Decoded::hash);
    let mut progress = hashes.zip(producer.submit(&all));
    for (answer, count) in answers {
        let _ = answer.send(Ok(progress.by_ref().take(count).collect()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_of_the_largest_code_is_admitted_alone_and_many_transfers_together() {
        let size = |transactions: Vec<String>| {
            let (answer, _) = oneshot::channel();
            let transactions = transactions.into();
            let request = Request {
                transactions,
                answer,
            };
            request.size()
        };
        let code = slackline_executor::ProtocolParams::v1()
            .limits
            .code
            .code_bytes;
        assert!(2 * size(vec!["0".repeat(2 * code)]) > ROOM.together);
        assert_eq!(size(vec!["0".repeat(500); 50]), 50);
        assert!(size(vec!["0".repeat(2 * 30_000); 100]) <= ROOM.queue);
    }
}
