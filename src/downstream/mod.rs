//! Skeleton of `downstream`.
