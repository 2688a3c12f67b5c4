//! A database in memory that can fail or freeze at its k-th operation. A write is two operations, as it is for RocksDB: the record
//! is appended to the log, and the log is synced. The live image is what the process sees, the durable one what is on disk.

use slackline_store::StoreError;
use slackline_store::backend::{Backend, Batch, Bounds, Cursor, Entry, Family, View};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) type Image = Arc<BTreeMap<(Family, Vec<u8>), Vec<u8>>>;

/// What happens at the k-th operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails; appended bytes that were not synced are lost.
    Fails,
    /// It fails; appended bytes reach the disk all the same.
    FailsButKeeps,
    /// It does not return: for the process everything ends there. What was not synced is lost.
    Freezes,
}

#[derive(Default)]
struct Inner {
    live: Image,
    durable: Image,
    operations: usize,
    fault: Option<(usize, Fault)>,
    broken: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Double(Arc<Mutex<Inner>>);

impl Double {
    pub(crate) fn new(image: Image, fault: Option<(usize, Fault)>) -> Double {
        Double(Arc::new(Mutex::new(Inner {
            live: image.clone(),
            durable: image,
            fault,
            ..Inner::default()
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is found when the machine starts again.
    pub(crate) fn durable(&self) -> Image {
        self.inner().durable.clone()
    }

    /// Operations so far.
    pub(crate) fn operations(&self) -> usize {
        self.inner().operations
    }
}

impl Inner {
    /// Counts an operation; its fault, if it has one.
    fn operation(&mut self) -> Option<Fault> {
        self.operations += 1;
        self.fault
            .filter(|(at, _)| *at == self.operations)
            .map(|(_, fault)| fault)
    }

    fn fail(&mut self) -> Result<(), StoreError> {
        self.broken = true;
        Err(StoreError::File("as planned".to_owned()))
    }
}

impl Backend for Double {
    fn view(&self) -> Result<Arc<dyn View>, StoreError> {
        Ok(Arc::new(Seen(self.inner().live.clone())))
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut inner = self.inner();
        if inner.broken {
            return inner.fail();
        }
        let mut image = (*inner.live).clone();
        for (family, key, value) in &batch.0 {
            match value {
                Some(value) => image.insert((*family, key.clone()), value.clone()),
                None => image.remove(&(*family, key.clone())),
            };
        }
        let image = Arc::new(image);
        // The append: a record that is cut short does not count.
        if inner.operation().is_some() {
            return inner.fail();
        }
        match inner.operation() {
            None => {}
            Some(Fault::FailsButKeeps) => {
                inner.durable = image;
                return inner.fail();
            }
            Some(Fault::Fails | Fault::Freezes) => return inner.fail(),
        }
        inner.live = image.clone();
        inner.durable = image;
        Ok(())
    }
}

struct Seen(Image);

impl View for Seen {
    fn read(
        &self,
        family: Family,
        key: &[u8],
        with: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StoreError> {
        let value = self.0.get(&(family, key.to_vec()));
        if let Some(value) = value {
            with(value);
        }
        Ok(value.is_some())
    }

    fn walk<'a>(
        &'a self,
        family: Family,
        (low, high): Bounds<'_>,
        descending: bool,
    ) -> Result<Box<dyn Cursor + 'a>, StoreError> {
        let inside = |key: &[u8]| {
            let above = match low {
                Bound::Included(low) => key >= low,
                Bound::Excluded(low) => key > low,
                Bound::Unbounded => true,
            };
            let below = match high {
                Bound::Included(high) => key <= high,
                Bound::Excluded(high) => key < high,
                Bound::Unbounded => true,
            };
            above && below
        };
        let mut found: Vec<_> = self
            .0
            .iter()
            .filter(|((of, key), _)| *of == family && inside(key))
            .map(|((_, key), value)| (key.as_slice(), value.as_slice()))
            .collect();
        if !descending {
            found.reverse();
        }
        Ok(Box::new(Found(found)))
    }
}

struct Found<'a>(Vec<(&'a [u8], &'a [u8])>);

impl Cursor for Found<'_> {
    fn next(&mut self) -> Result<Option<Entry<'_>>, StoreError> {
        Ok(self.0.pop())
    }
}
