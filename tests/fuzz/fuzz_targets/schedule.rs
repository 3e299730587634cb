#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| martello_tests::fuzz::schedule(bytes));
