//! Skeleton of `admin`.
