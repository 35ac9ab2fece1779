//! Skeleton of `relay`.
