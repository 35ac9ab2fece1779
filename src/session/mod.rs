//! Skeleton of `session`.
