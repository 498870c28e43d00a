#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kilter_fuzz::cni(bytes));
