//! `doorstep-libfuzzer`: targets with coverage guidance. libFuzzer has the `main` function and reads
//! the arguments; the target stands in `DOORSTEP_FUZZ_TARGET`.
#![no_main]

use std::sync::LazyLock;

use doorstep_fuzz::Target;
use doorstep_fuzz::mutate::Mutator;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("DOORSTEP_FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).expect("DOORSTEP_FUZZ_TARGET names a target")
});

fuzz_target!(init: LazyLock::force(&TARGET), |data: &[u8]| (TARGET.check)(data));

// Half of the changes are ours, which know how the input is put together; the others know from
// comparisons in the code what it looks for.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % 2 == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut input = data[..size].to_vec();
    let mut mutator = Mutator::new(TARGET.shape, TARGET.words, seed.into());
    mutator.change(&mut input, &data[..size]);
    let len = input.len().min(max_size);
    data[..len].copy_from_slice(&input[..len]);
    len
});
