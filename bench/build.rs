//! Builds the benchmark's programs.

fn main() -> Result<(), doorstep_ebpf_build::Error> {
    doorstep_ebpf_build::build_for_build_script(
        "doorstep-bench-ebpf",
        "doorstep-bench-load",
        "BENCH_OBJECT",
    )
}
