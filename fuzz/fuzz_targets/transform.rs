//! Feeds libFuzzer's bytes to `bodies/transform.rs`, which `tests/fuzz_corpus.rs` runs over the corpus, too.

#![no_main]

#[path = "../bodies/transform.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    body::check(bytes);
});
