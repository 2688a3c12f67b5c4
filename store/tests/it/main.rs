//! The store against a model of it, on databases that fail, and on RocksDB in processes that are killed.

mod double;
mod faults;
mod model;
mod rocks;
mod support;
mod transfer;
