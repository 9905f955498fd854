//! What the programs cost the kernel's verifier. It is time at each start of the daemon, and a bound
//! (a million instructions) that nobody wants to meet.

use anyhow::ensure;
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::names::program;
use doorstep_tests::programs::Loaded;
use doorstep_tests::suite::CaseResult;

use crate::fixture;

/// Recorded on Linux 6.18, with room for other kernels' verifiers: of the plain programs, and of those
/// that tell of packets.
const MOST: [(&str, u32, u32); 2] = [
    (program::XDP_ACCESS, 110_400, 119_600),
    (program::XDP_UPLINK, 13_600, 24_400),
];
const ROOM: u32 = 2;

/// The code that tells of packets has more bytes than this.
const TELLING: u32 = 4096;

fn loaded(flags: u16) -> anyhow::Result<Loaded> {
    let mut model = fixture::model();
    model.globals.flags = flags;
    Loaded::new(&model)
}

pub fn instructions_do_not_jump() -> CaseResult {
    let (plain, telling) = (loaded(0)?, loaded(Globals::TRACE)?);
    for (name, most_plain, most_telling) in MOST {
        for (loaded, recorded) in [(&plain, most_plain), (&telling, most_telling)] {
            let Some(verified) = loaded.verified(name)? else {
                continue;
            };
            ensure!(verified > 0, "{name}: the kernel verified nothing");
            ensure!(
                verified <= recorded * ROOM,
                "{name}: {verified} instructions verified, {recorded} recorded"
            );
        }
    }
    Ok(())
}

/// Where nobody follows packets, the code for it is not in the kernel.
pub fn plain_programs_cannot_tell() -> CaseResult {
    let (plain, telling) = (loaded(0)?, loaded(Globals::TRACE)?);
    for (name, ..) in MOST {
        let (plain, telling) = (plain.translated(name)?, telling.translated(name)?);
        ensure!(
            plain > 0 && plain + TELLING < telling,
            "{name}: {plain} bytes without, {telling} with it"
        );
    }
    Ok(())
}
