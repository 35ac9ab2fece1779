//! Skeleton of `mapping`.
