//! Feeds libFuzzer's bytes to `bodies/jwt.rs`, which `tests/fuzz_corpus.rs` runs over the corpus, too.

#![no_main]

#[path = "../bodies/jwt.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    body::check(bytes);
});
