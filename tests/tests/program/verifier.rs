//! What the programs cost the kernel's verifier. It is time at each start of the daemon, and a bound
//! (a million instructions) that nobody wants to meet.

use anyhow::ensure;
use doorstep_gateway_common::names::program;
use doorstep_tests::programs::Loaded;
use doorstep_tests::suite::CaseResult;

use crate::fixture;

/// Recorded on Linux 6.18, with room for other kernels' verifiers.
const MOST: [(&str, u32); 2] = [(program::XDP_ACCESS, 36_400), (program::XDP_UPLINK, 12_000)];
const ROOM: u32 = 2;

pub fn instructions_do_not_jump() -> CaseResult {
    let mut model = fixture::model();
    if std::env::var_os("XX_TRACE").is_some() { model.globals.flags |= 1; }
    let loaded = Loaded::new(&model)?;
    for (name, recorded) in MOST {
        let Some(verified) = loaded.verified(name)? else {
            continue;
        };
        eprintln!("XX {name} {verified}");
        ensure!(verified > 0, "{name}: the kernel verified nothing");
        ensure!(
            verified <= recorded * ROOM,
            "{name}: {verified} instructions verified, {recorded} recorded"
        );
    }
    Ok(())
}
