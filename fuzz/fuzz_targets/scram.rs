//! Feeds libFuzzer's bytes to `bodies/scram.rs`, which `tests/fuzz_corpus.rs` runs over the corpus, too.

#![no_main]

#[path = "../bodies/scram.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    body::check(bytes);
});
