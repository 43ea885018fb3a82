#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rhd_fuzz::journal(data));
