//! Feeds libFuzzer's bytes to `bodies/schema.rs`, which `tests/fuzz_corpus.rs` runs over the corpus, too.

#![no_main]

#[path = "../bodies/schema.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    body::check(bytes);
});
