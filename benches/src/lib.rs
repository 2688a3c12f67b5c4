//! Kernels and measuring, shared by the benchmarks.
