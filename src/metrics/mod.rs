//! Skeleton of `metrics`.
