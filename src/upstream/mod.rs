//! Skeleton of `upstream`.
