//! Builds the access switch's programs.

fn main() -> Result<(), doorstep_ebpf_build::Error> {
    doorstep_ebpf_build::build_for_build_script(
        "doorstep-tests-ebpf",
        "doorstep-access-switch",
        "ACCESS_SWITCH_OBJECT",
    )
}
